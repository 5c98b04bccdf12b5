"""How Ansible reaches a host, as its variables say, in the words of our inventory.

The names are those of Ansible's ssh connection and sudo plugins; where two say one thing, the last
of them counts, as for Ansible. A secret is never carried over: its name is told, not its value.
"""

import re
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from nodeprep.importing import ssh_words
from nodeprep.importing.ansible.draft import Var, Vars
from nodeprep.importing.ansible.membership import Host
from nodeprep.importing.ansible.templates import UnresolvedError, resolved
from nodeprep.importing.imported import ASK, NO_ROOT, Key, Machine, Note, Origin, Remark, Value
from nodeprep.importing.settings import Paths, fitting
from nodeprep.inventory.characters import shown
from nodeprep.inventory.hosts import address

ADDRESS = ("ansible_ssh_host", "ansible_host")
PORT = ("ansible_port", "ansible_ssh_port")
USER = ("ansible_user", "ansible_ssh_user")
KEY_FILE = (
    "ansible_private_key_file",
    "ansible_ssh_private_key_file",
)
BEFORE, AFTER = ("ansible_ssh_args",), ("ansible_ssh_common_args", "ansible_ssh_extra_args")
"""Arguments of ssh that Ansible puts before its own options, and behind them."""

LOGIN_SECRETS = ("ansible_password", "ansible_ssh_pass", "ansible_ssh_password")
SUDO_SECRETS = (
    *("ansible_become_pass", "ansible_become_password", "ansible_sudo_pass"),
    *("ansible_su_pass", "ansible_doas_pass"),
)
BECOME = ("ansible_become", "ansible_become_method", "ansible_become_user")
HOST_KEYS = ("ansible_host_key_checking", "ansible_ssh_host_key_checking")
NO_LOSS = frozenset(
    (
        *("ansible_python_interpreter", "ansible_shell_type", "ansible_shell_executable"),
        *("ansible_pipelining", "ansible_ssh_pipelining", "ansible_ssh_transfer_method"),
        *("ansible_scp_if_ssh", "ansible_ssh_retries", "ansible_timeout", "ansible_ssh_timeout"),
        *("ansible_remote_tmp", "ansible_group_priority", "ansible_control_path"),
        *("ansible_control_path_dir", "ansible_ssh_use_tty", "ansible_sftp_batch_mode"),
    )
)
"""Variables without which nodeprep reaches the same machine as the same user."""

KNOWN = frozenset(
    (
        *("ansible_connection", *ADDRESS, *PORT, *USER, *KEY_FILE, *BEFORE, *AFTER),
        *(*LOGIN_SECRETS, *SUDO_SECRETS, *BECOME, *HOST_KEYS, *NO_LOSS),
    )
)
"""Every variable that is looked at here."""

_BY_SSH = frozenset({"ssh", "smart", "paramiko", "paramiko_ssh", "libssh"})
_YES = frozenset({"y", "yes", "on", "1", "true", "t", "1.0"})
_LEFT_OUT = "left out"


@dataclass(frozen=True, kw_only=True)
class Reached:
    """How one host is reached: the machine, None where it is not by SSH, and what was seen.

    ``vault`` tells that something which counts is in a vault.
    """

    machine: Machine | None
    notes: tuple[Note, ...]
    written_in: Mapping[str, frozenset[Key]]
    vault: bool


def reached(
    host: Host, paths: Paths, around: Mapping[str, Var], more: Callable[["Reading"], None]
) -> Reached:
    """Return how our inventory would reach ``host``; ``more`` looks at further variables.

    ``around`` are variables that Ansible itself has for templates.
    """
    reading = Reading(host=host, paths=paths, around=around)
    machine = reading.machine()
    if machine is not None:
        more(reading)
    return Reached(
        machine=machine,
        notes=tuple(reading.notes),
        written_in={group: frozenset(keys) for group, keys in reading.written_in.items()},
        vault=reading.vault,
    )


@dataclass(kw_only=True)
class Reading:
    """The variables of one host as they are looked at, with what comes of it."""

    host: Host
    paths: Paths
    around: Mapping[str, Var]
    settings: dict[Key, Value] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    written_in: dict[str, set[Key]] = field(default_factory=dict)
    vault: bool = False

    def machine(self) -> Machine | None:
        """Return the machine that the host is, None where it is left out."""
        where = self._address()
        if where is None:
            return None
        if where != "local":
            self._ssh()
        self._become(where)
        return Machine(
            name=self.host.name, address=where, groups=self.host.groups, settings=self.settings
        )

    @property
    def variables(self) -> Mapping[str, Var]:
        """What a template may name."""
        name = Var(value=self.host.name, origin=Origin(""))
        short = Var(value=self.host.name.partition(".")[0], origin=Origin(""))
        own = {"inventory_hostname": name, "inventory_hostname_short": short}
        return ChainMap(own, cast("Vars", self.host.vars), cast("Vars", self.around))

    # --- single variables -----------------------------------------------------------------------

    def var(self, *names: str) -> Var | None:
        """Return the variable of these names that counts, without looking at its value."""
        return next((self.host.vars[n] for n in reversed(names) if n in self.host.vars), None)

    def value(self, *names: str) -> Any:
        """Return the value of the variable that counts; None for none, or one nobody can tell."""
        found = self.var(*names)
        if found is None:
            return None
        try:
            return resolved(found.value, self.variables)
        except UnresolvedError as error:
            name = next(n for n in reversed(names) if n in self.host.vars)
            self.vault = self.vault or error.is_vault
            self.remark(Remark(f"{name} {error}: it stays behind", "write its value"), found)
            return None

    def text(self, *names: str) -> str | None:
        """Return the value as text, None where there is nothing in it."""
        value = self.value(*names)
        if value is None or isinstance(value, str | int | float):
            return None if value is None else str(value).strip() or None
        name = next(n for n in reversed(names) if n in self.host.vars)
        self.remark(Remark(f"{name} stays behind: it is no text"), self.var(*names))
        return None

    def set(self, key: Key, value: Value, var: Var | None) -> None:
        """Keep a setting if our inventory takes it, and say why if not."""
        if refused := fitting(key, value):
            self.remark(Remark(f"{'.'.join(key)} stays behind: {refused}"), var)
            return
        if key not in self.settings:
            self.settings[key] = value
            if var and var.group:
                self.written_in.setdefault(var.group, set()).add(key)

    def remark(self, remark: Remark, var: Var | None = None) -> None:
        """Take note of something about this host."""
        note = Note(
            message=remark.message,
            hint=remark.hint,
            nodes=(self.host.name,),
            origin=var.origin if var else None,
        )
        self.notes.append(note)

    # --- what they come to ----------------------------------------------------------------------

    def _address(self) -> str | None:
        kind = self.text("ansible_connection")
        plugin = (kind or "ssh").rpartition(".")[2]
        if plugin == "local":
            return "local"
        if plugin not in _BY_SSH:
            told = f"ansible_connection is {shown(plugin)}: {_LEFT_OUT}"
            self.remark(Remark(told, "nodeprep reaches Linux nodes by SSH"), self._any(*ADDRESS))
            return None
        given = self.var(*ADDRESS)
        where = self.text(*ADDRESS) if given else self.host.name
        if where is None:
            self.remark(Remark(f"its address cannot be told: {_LEFT_OUT}", "write it"), given)
            return None
        bare = where.removeprefix("[").removesuffix("]")
        try:
            return address(bare)
        except ValueError as error:
            self.remark(Remark(f"{error}: {_LEFT_OUT}"), given)
            return None

    def _any(self, *names: str) -> Var | None:
        return self.var("ansible_connection") or self.var(*names)

    def _ssh(self) -> None:
        self._arguments(BEFORE)
        if port := self.text(*PORT):
            number = int(port) if re.fullmatch(r"[0-9]{1,5}", port) else port
            self.set(("ssh", "port"), number, self.var(*PORT))
        if user := self.text(*USER):
            self.set(("ssh", "user"), user, self.var(*USER))
        if path := self.text(*KEY_FILE):
            self._path(("ssh", "identity_file"), path, self.var(*KEY_FILE))
        self._arguments(AFTER)
        if self.var(*HOST_KEYS) and not is_yes(self.value(*HOST_KEYS)):
            self.remark(ssh_words.STRICT, self.var(*HOST_KEYS))
        if secret := self.var(*LOGIN_SECRETS):
            told = "the login password stays behind, for it is a secret"
            self.remark(Remark(told, "nodeprep logs in with a key: ssh-copy-id"), secret)

    def _path(self, key: Key, path: str, var: Var | None) -> None:
        self.set(key, self.paths.told(path), var)

    def _arguments(self, names: Iterable[str]) -> None:
        for name in names:
            text, var = self.text(name), self.var(name)
            if not text:
                continue
            told = ssh_words.of_words(text)
            for key, value in self.paths.of(told.settings).items():
                self.set(key, value, var)
            for remark in told.remarks:
                self.remark(remark, var)
            if told.unknown:
                listed = ", ".join(sorted(told.unknown))
                self.remark(Remark(f"ssh options stay behind: {listed}"), var)

    def _become(self, where: str) -> None:
        secret = self.var(*SUDO_SECRETS)
        wanted = self.var("ansible_become")
        if wanted is None and secret is None:
            if where != "local" and self.settings.get(("ssh", "user")) != "root":
                self.remark(NO_ROOT)
            return
        if wanted is not None and (value := self.value("ansible_become")) is None:
            return
        if wanted is not None and not is_yes(value):
            self.set(("sudo",), "none", wanted)
            return
        if self._is_other_root():
            return
        if secret is None:
            self.set(("sudo",), "passwordless", wanted)
            return
        self.set(("sudo",), ASK, wanted or secret)
        told = "the password for sudo stays behind, for it is a secret: it will be asked for"
        hint = "or see {password: {file: PATH}} in docs/inventory.md"
        self.remark(Remark(told, hint), secret)

    def _is_other_root(self) -> bool:
        """Tell whether somebody else is meant, or another program than sudo, and say so."""
        method = (self.text("ansible_become_method") or "sudo").rpartition(".")[2]
        user = self.text("ansible_become_user") or "root"
        if method != "sudo":
            told = f"becoming root by {shown(method)} stays behind"
            self.remark(Remark(told, "nodeprep knows sudo"), self.var("ansible_become_method"))
        if user != "root":
            told = f"becoming {shown(user)} stays behind"
            self.remark(Remark(told, "nodeprep works as root"), self.var("ansible_become_user"))
        return method != "sudo" or user != "root"


def is_yes(value: Any) -> bool:
    """Tell whether Ansible takes a value for true."""
    return str(value).strip().lower() in _YES
