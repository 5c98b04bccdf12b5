"""Debian's packages made into rpm's: the same files under the names that a family gives them.

Requirements are real: rpmbuild reads them out of the programs (a library by name and version, the
interpreter of a script), and what one of the packages needs of another is taken over from Debian.
What the image has is known to its rpm database (``guest/rpm/usr/lib/nodeprep-lab/rpm-base``).
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email import message_from_string
from pathlib import Path

from nodeprep.lab.programs import run

# Nobody reads manuals on a virtual node.
_LEFT_OUT = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian")
# Neither stripping nor anything else: the files are Debian's, and are to stay so.
_MACROS: Mapping[str, str] = {
    "_build_id_links": "none",
    "_build_name_fmt": "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
    "__os_install_post": "%{nil}",
    # An emulated processor unpacks this quickest of what is small.
    "_binary_payload": "w6.gzdio",
}

_NAMES_PROGRAMS = "update-alternatives"


@dataclass(frozen=True, kw_only=True)
class Package:
    """A Debian package: what its control file says, its scripts, its files.

    ``needs`` are the names in its Depends. ``after_install`` and ``before_removal`` are what dpkg
    would run. ``files`` are absolute paths on a node, ``settings`` those of them that an
    administrator may change.
    """

    name: str
    version: str
    summary: str
    needs: tuple[str, ...]
    after_install: str
    before_removal: str
    files: tuple[str, ...]
    settings: tuple[str, ...]


def make(folder: Path, names: Mapping[str, str]) -> None:
    """Turn the folder's .deb files into a repository of .rpm files, renamed by ``names``.

    Raises LabError with the words of rpmbuild or createrepo_c.
    """
    work = folder / "work"
    debs = sorted(folder.glob("*.deb"))
    packages = {work / deb.stem: unpacked(deb, work / deb.stem) for deb in debs}
    here = frozenset(package.name for package in packages.values())
    for tree, package in packages.items():
        _spec_of(tree).write_text(spec(package, tree, names, here))
    macros = {**_MACROS, "_topdir": str(work), "_rpmdir": str(folder)}
    defines = (word for name in macros for word in ("--define", f"{name} {macros[name]}"))
    specs = (str(_spec_of(tree)) for tree in packages)
    # Macros of the user's own would be read from the home folder.
    run(["rpmbuild", "--quiet", "-bb", *defines, *specs], env={"HOME": str(work)})
    run(["rm", "-rf", work, *debs])
    run(["createrepo_c", "--quiet", folder])


def _spec_of(tree: Path) -> Path:
    return tree.with_name(f"{tree.name}.spec")


def unpacked(deb: Path, tree: Path) -> Package:
    """Unpack the files into ``tree``, less those left out, and return what there is to know."""
    tree.mkdir(parents=True)
    control = tree.with_name(f"{tree.name}.control")
    run(["dpkg-deb", "--extract", deb, tree])
    run(["dpkg-deb", "--control", deb, control])
    run(["rm", "-rf", *(tree / folder for folder in _LEFT_OUT)])
    files = (path for path in sorted(tree.rglob("*")) if path.is_symlink() or path.is_file())
    return package(
        {path.name: path.read_text() for path in control.iterdir()},
        tuple(f"/{path.relative_to(tree)}" for path in files),
    )


def package(control: Mapping[str, str], files: Sequence[str]) -> Package:
    """Read a package's control files: their texts by name."""
    fields = message_from_string(control["control"])
    return Package(
        name=fields["Package"],
        version=fields["Version"],
        summary=fields["Description"].splitlines()[0],
        needs=tuple(re.findall(r"(?:^|[,|])\s*([a-z0-9+.-]+)", fields["Depends"] or "")),
        after_install=control.get("postinst", ""),
        before_removal=control.get("prerm", ""),
        files=tuple(files),
        settings=tuple(control.get("conffiles", "").split()),
    )


def spec(package: Package, tree: Path, names: Mapping[str, str], here: Collection[str]) -> str:
    """Return what rpmbuild makes the package of, out of its files in ``tree``.

    ``here`` are the packages that are made along with it; what it needs beside them is in the
    image. A package of another name provides its old one, as it does in the families.
    """
    epoch, version, release = evr(package.version)
    lines = [
        f"Name: {names.get(package.name, package.name)}",
        f"Epoch: {epoch}",
        f"Version: {version}",
        f"Release: {release}",
        f"Summary: {_literal(package.summary)}",
        "License: as Debian's package says",
        *(f"Requires: {names.get(each, each)}" for each in package.needs if each in here),
    ]
    if package.name in names:
        lines.append(f"Provides: {package.name} = {epoch}:{version}-{release}")
    lines += [
        "%description",
        f"Debian's package {package.name} {package.version}, made into rpm's.",
        "%install",
        f"cp -a '{_literal(str(tree))}/.' \"$RPM_BUILD_ROOT\"",
        # As everywhere in the families: rpmbuild asks executable files only what they need.
        "find \"$RPM_BUILD_ROOT\" -name '*.so*' -type f -exec chmod 755 {} +",
        *_scripts(package),
        "%files",
        "%defattr(-,root,root)",
        *(_file_line(path, package.settings) for path in package.files),
    ]
    return "\n".join(lines) + "\n"


def evr(version: str) -> tuple[str, str, str]:
    """Return epoch, version and release of a Debian version such as ``1:1.4.7-1+b2``."""
    epoch, _, rest = version.rpartition(":")
    upstream, _, revision = rest.rpartition("-")
    return epoch or "0", (upstream or revision).replace("-", "_"), revision if upstream else "0"


def _scripts(package: Package) -> Iterator[str]:
    """Yield the scripts that give programs their names and take them away again.

    Others start and stop services, and the families' packages leave that to the administrator.
    """
    if _NAMES_PROGRAMS in package.after_install:
        yield from ("%post", "set -- configure", _literal(package.after_install))
    if _NAMES_PROGRAMS in package.before_removal:
        # To rpm, an upgrade is the removal of all but the last.
        yield from ("%preun", '[ "$1" -eq 0 ] || exit 0', "set -- remove")
        yield _literal(package.before_removal)


def _file_line(path: str, settings: Sequence[str]) -> str:
    kind = "%config(noreplace) " if path in settings else ""
    return f'{kind}"{_literal(path)}"'


def _literal(text: str) -> str:
    """Return the text as a spec file has it: a single % would begin a macro."""
    return text.replace("%", "%%")
