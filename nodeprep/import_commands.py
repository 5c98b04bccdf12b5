"""``nodeprep import``: inventories that people already have, turned into one of ours.

What is written goes to stdout or a file, and all that is to be said of it to stderr.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from nodeprep import ansible_inventory
from nodeprep.errors import InventoryError, NodeprepError, UsageError
from nodeprep.importing import ansible, kubectl, kubespray, sources, ssh_config, writing
from nodeprep.importing.ansible import Extra, Result
from nodeprep.importing.imported import Imported, told
from nodeprep.importing.naming import renamed
from nodeprep.importing.settings import Paths
from nodeprep.inventory.characters import printable
from nodeprep.inventory.foreign import LIMIT
from nodeprep.inventory.source import LIMIT as LARGEST

STDIN = "-"


class Sources(click.Group):
    """The kinds of inventories; a path in place of a kind gets a hint."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; where a file stands in its place, say what is missing."""
        if args and args[0] not in self.commands and Path(args[0]).exists():
            kinds = ", ".join(self.commands)
            hint = f"say what it is ({kinds}), such as: nodeprep import ansible {args[0]}"
            raise UsageError(f"{args[0]} is no kind of inventory", hint=hint)
        return super().resolve_command(ctx, args)


@click.group("import", cls=Sources)
def import_() -> None:
    """Turn an inventory that you have into one of nodeprep's; no node is asked."""


def _writes(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options by which the result is written."""
    options = (
        click.option(
            "--out", type=click.Path(path_type=Path), help="Write it there, not to stdout."
        ),
        click.option("--force", is_flag=True, help="Replace the file that --out names."),
    )
    for option in reversed(options):
        command = option(command)
    return command


_with_ansible = click.option(
    "--with-ansible", is_flag=True, help="Let ansible-inventory read it, not nodeprep itself."
)


@import_.command("ansible")
@click.argument("path", type=click.Path(path_type=Path, allow_dash=True))
@_with_ansible
@_writes
def _ansible(path: Path, *, with_ansible: bool, **given: Any) -> None:
    """An Ansible inventory: a file, a folder, or - for what `ansible-inventory --list` prints."""
    write = _writer(given, f"{_shown(path)}, an inventory of Ansible")
    write(_of_ansible(path, _paths(given), Extra(), deep=True, asked=with_ansible).imported)


@import_.command("kubespray")
@click.argument("path", type=click.Path(path_type=Path))
@_with_ansible
@_writes
def _kubespray(path: Path, *, with_ansible: bool, **given: Any) -> None:
    """A Kubespray inventory: its folder (inventory/mycluster) or the file in it."""
    write = _writer(given, f"{_shown(path)}, an inventory of Kubespray")
    extra = kubespray.extra()
    result = _of_ansible(path, _paths(given), extra, deep=False, asked=with_ansible)
    write(kubespray.narrowed(result).imported)


@import_.command("kubectl")
@click.argument("path", type=click.Path(path_type=Path, allow_dash=True))
@_writes
def _kubectl(path: Path, **given: Any) -> None:
    """What `kubectl get nodes -o json` prints: a file, or - for stdin."""
    write = _writer(given, f"{_shown(path)}, what kubectl says of its nodes")
    write(kubectl.read(_content(path, kubectl.LIMIT), _shown(path)))


@import_.command("ssh-config")
@click.argument("path", type=click.Path(path_type=Path))
@_writes
def _ssh_config(path: Path, **given: Any) -> None:
    """An ssh_config: each Host entry that is no pattern, such as in ~/.ssh/config."""
    write = _writer(given, f"{_shown(path)}, an ssh_config")
    include = sources.included(path.absolute().parent)
    write(ssh_config.read(_content(path), _shown(path), include, _paths(given)))


# --- reading ------------------------------------------------------------------------------------


def _of_ansible(path: Path, paths: Paths, extra: Extra, *, deep: bool, asked: bool) -> Result:
    """Read an inventory by ourselves or by Ansible, and say which way was taken and why."""
    if str(path) == STDIN:
        return _of_stdin(_content(path), _shown(path), paths, extra)
    if not path.exists():
        raise UsageError(f"there is no {_shown(path)}")
    source = sources.gathered(path, deep=deep)
    if reason := "you asked for it" if asked else ansible.for_ansible(source):
        return _by_ansible(path, paths, extra, reason)
    result = ansible.read(source, paths, extra)
    if result.vault and (better := _better(path, paths, extra)):
        return better
    _say(f"read by nodeprep itself: {_count(len(source.inventories) + len(source.beside), 'file')}")
    return result


def _of_stdin(text: bytes, name: str, paths: Paths, extra: Extra) -> Result:
    if ansible.is_listing(text):
        return ansible.read_listing(text, name, paths, extra)
    source = sources.Source(folder=str(Path.cwd()), shown="", inventories={name: text})
    if reason := ansible.for_ansible(source):
        raise UsageError(
            f"only ansible-inventory can read this, for {reason}", hint="name the file"
        )
    return ansible.read(source, paths, extra)


def _better(path: Path, paths: Paths, extra: Extra) -> Result | None:
    """Return what Ansible itself says, where it is installed and can open the vaults."""
    if not ansible_inventory.is_installed():
        return None
    try:
        result = _asked(path, paths, extra)
    except NodeprepError as error:
        _say(f"{error.message}, so its answer does not count")
        return None
    if result.vault:
        _say(f"{ansible_inventory.PROGRAM} cannot open all vaults either")
        return None
    _say(f"read by {ansible_inventory.PROGRAM}, for it can open the vaults")
    return result


def _by_ansible(path: Path, paths: Paths, extra: Extra, reason: str) -> Result:
    if not ansible_inventory.is_installed():
        piped = f"ansible-inventory -i {_shown(path)} --list | nodeprep import ansible -"
        hint = f"install ansible-core, or where it is: {piped}"
        raise UsageError(f"only ansible-inventory can read this, for {reason}", hint=hint)
    result = _asked(path, paths, extra)
    _say(f"read by {ansible_inventory.PROGRAM}, for {reason}")
    return result


def _asked(path: Path, paths: Paths, extra: Extra) -> Result:
    listing = ansible_inventory.listing(path)
    return ansible.read_listing(listing, ansible_inventory.PROGRAM, paths, extra)


def _content(path: Path, limit: int = LIMIT) -> bytes:
    if str(path) == STDIN:
        return sys.stdin.buffer.read(limit + 1)
    return sources.content(path, limit)


def _shown(path: Path) -> str:
    return "<stdin>" if str(path) == STDIN else printable(str(path))


def _paths(given: Mapping[str, Any]) -> Paths:
    """Relative paths begin here for Ansible and ssh, in our inventory where it stands."""
    out = given["out"]
    is_here = out is None or out.absolute().parent == Path.cwd()
    return Paths(here=None if is_here else Path.cwd())


# --- writing ------------------------------------------------------------------------------------


def _writer(given: Mapping[str, Any], origin: str) -> Callable[[Imported], None]:
    """Return what writes an import; a file that is there already is known before any work."""
    out: Path | None = given["out"]
    if out and out.exists() and not given["force"]:
        raise UsageError(f"{out} is there already", hint="name another file, or say --force")

    def write(imported: Imported) -> None:
        ready = renamed(imported)
        for line in told(ready.notes):
            _say(line)
        if not ready.machines:
            raise UsageError("there is no host in it that nodeprep could reach")
        text = _checked(ready, origin)
        _put(text, out, force=given["force"])
        _summary(ready, out)

    return write


def _checked(imported: Imported, origin: str) -> str:
    """Return the inventory's text, which our own loader has read back."""
    heading = f"Imported from {origin}.\nLook before you leap: nodeprep plan (changes nothing)"
    text = writing.text(imported, heading)
    if len(text.encode()) > LARGEST:
        told = f"the inventory would be larger than {LARGEST // 1024**2} MiB"
        raise UsageError(told, hint="import it in parts")
    try:
        writing.read_back(text)
    except InventoryError as error:
        told = "the result would not be an inventory, which is a defect of nodeprep"
        raise NodeprepError(f"{told}:\n{error}") from error
    return text


def _put(text: str, out: Path | None, *, force: bool) -> None:
    """Write all of it or nothing, and over another file only with force."""
    if out is None:
        click.echo(text, nl=False)
        return
    written = out.with_name(f".{out.name}.nodeprep") if force else out
    with written.open("w" if force else "x", encoding="utf-8") as file:
        try:
            file.write(text)
            file.flush()
        except OSError:
            written.unlink()
            raise
    if force:
        written.replace(out)


def _summary(imported: Imported, out: Path | None) -> None:
    groups = {group for machine in imported.machines for group in machine.groups}
    where = f", written to {out}" if out else ""
    nodes = _count(len(imported.machines), "node")
    _say(f"{nodes} in {_count(len(groups), 'group')}{where}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _say(line: str) -> None:
    """Say on stderr what is going on; stdout is for the inventory."""
    click.echo(line, err=True)
