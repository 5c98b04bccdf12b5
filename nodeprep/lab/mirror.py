"""Where Debian's packages come from: the host's own apt configuration, asked when needed.

No mirror's address is written anywhere in nodeprep. The host's configuration is read and never
changed: every apt of the lab runs with folders of its own.
"""

from dataclasses import dataclass
from pathlib import Path

from nodeprep.errors import LabError
from nodeprep.lab.programs import run

RELEASE = "bookworm"
_FIELDS = ("CREATED_BY", "ORIGIN", "CODENAME", "COMPONENT", "REPO_URI", "RELEASE")
_CODENAMES = frozenset({RELEASE, f"{RELEASE}-updates", f"{RELEASE}-security"})
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# These say what to download and how to store it; all others say how to get there.
_NOT_TRANSPORT = (
    "Acquire::IndexTargets",
    "Acquire::Changelogs",
    "Acquire::CompressionTypes",
    "Acquire::cdrom",
    "Acquire::GzipIndexes",
    "Acquire::Languages",
)


@dataclass(frozen=True, kw_only=True, order=True)
class Archive:
    """One suite of Debian's own archive, as the host reaches it."""

    suite: str
    uri: str

    def line(self, kind: str, keyring: Path | None) -> str:
        """Return the archive as a line of sources.list; kind is ``deb`` or ``deb-src``."""
        option = f" [signed-by={keyring}]" if keyring else ""
        return f"{kind}{option} {self.uri} {self.suite} main"


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """Debian's archives, and the options (proxies, certificates) with which apt gets there."""

    archives: tuple[Archive, ...]
    options: tuple[str, ...]

    def sources(self, kind: str = "deb") -> str:
        """Return the text of a sources.list."""
        keyring = _KEYRING if _KEYRING.exists() else None
        return "".join(f"{archive.line(kind, keyring)}\n" for archive in self.archives)


def read() -> Mirror:
    """Ask the host's apt. Raises LabError if it knows no archive of Debian bookworm."""
    wanted = "\t".join(f"$({field})" for field in _FIELDS)
    archives = parse_index_targets(run(["apt-get", "indextargets", "--format", wanted]))
    if not any(archive.suite == RELEASE for archive in archives):
        raise LabError(
            f"apt on this machine has no package list of Debian {RELEASE}",
            hint="apt-get update    (and a Debian source in /etc/apt/sources.list.d, if none is)",
        )
    return Mirror(
        archives=archives,
        options=parse_transport_options(run(["apt-config", "dump", "Acquire"])),
    )


def parse_index_targets(listing: str) -> tuple[Archive, ...]:
    """Return Debian's own archives out of all that the host uses, third parties left aside."""
    rows = [line.split("\t") for line in listing.splitlines()]
    found = {
        Archive(suite=suite, uri=uri)
        for created_by, origin, codename, component, uri, suite in (
            row for row in rows if len(row) == len(_FIELDS)
        )
        if (created_by, origin, component) == ("Packages", "Debian", "main")
        and codename in _CODENAMES
    }
    return tuple(sorted(found))


def parse_transport_options(dump: str) -> tuple[str, ...]:
    """Return the lines of ``apt-config dump Acquire`` that say how to reach a mirror."""
    return tuple(
        line
        for line in dump.splitlines()
        if line.startswith("Acquire::")
        and not line.startswith(_NOT_TRANSPORT)
        and not line.endswith(' "";')
    )


@dataclass(frozen=True, kw_only=True)
class PrivateApt:
    """An apt whose every folder is ours: the host's lists, caches and hooks stay out of it."""

    folder: Path
    status: Path

    def prepare(self, mirror: Mirror, *kinds: str) -> None:
        """Write its configuration and fetch the lists of these kinds (deb, deb-src)."""
        for name in ("state/lists/partial", "cache/archives/partial", "parts"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "sources.list").write_text("".join(map(mirror.sources, kinds)))
        (self.folder / "apt.conf").write_text(self.configuration(mirror.options))
        self.get("update")

    def configuration(self, options: tuple[str, ...]) -> str:
        """Return the text of its apt.conf."""
        settings = {
            "Dir::State": self.folder / "state",
            "Dir::State::status": self.status,
            "Dir::Cache": self.folder / "cache",
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::parts": self.folder / "parts",
            "Dir::Etc::sourcelist": self.folder / "sources.list",
            "Dir::Etc::sourceparts": self.folder / "parts",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": self.folder / "parts",
            "Acquire::Languages": "none",
            "APT::Install-Recommends": "false",
            # The folders are the user's own; apt's sandbox user could not write there.
            "APT::Sandbox::User": "root",
        }
        lines = [f'{name} "{value}";' for name, value in settings.items()]
        return "\n".join([*lines, *options]) + "\n"

    def get(self, *words: str, cwd: Path | None = None) -> str:
        """Run apt-get with this configuration and return its output."""
        settings = {
            "APT_CONFIG": str(self.folder / "apt.conf"),
            "DEBIAN_FRONTEND": "noninteractive",
        }
        return run(["apt-get", "-q", "-y", *words], cwd=cwd, env=settings)


def bare_apt(work: Path, mirror: Mirror, *kinds: str) -> PrivateApt:
    """Return an apt in the folder ``work``, prepared, for which nothing is installed yet."""
    apt = PrivateApt(folder=work / "apt", status=work / "nothing-installed")
    apt.folder.mkdir(parents=True)
    apt.status.touch()
    apt.prepare(mirror, *kinds)
    return apt


def unpack(root: Path, mirror: Mirror, *packages: str) -> None:
    """Download packages and unpack them into a folder. Nothing is installed, no script is run."""
    work = root / "work"
    bare_apt(work, mirror, "deb").get("download", *packages, cwd=work)
    for package in work.glob("*.deb"):
        run(["dpkg-deb", "--extract", package, root])
    run(["rm", "-rf", work])
