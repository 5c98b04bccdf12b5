"""Debian's Go compiler in the cache: for Kubernetes, and for the lab's own programs.

Nothing is installed on the host: apt downloads the compiler and its standard library, and they are
unpacked and used from there. It never asks the network for anything.
"""

from dataclasses import dataclass
from pathlib import Path

from nodeprep.lab.cache import cached, digest
from nodeprep.lab.mirror import Mirror, unpack
from nodeprep.lab.programs import run

VERSION = "1.19"
PACKAGES = (f"golang-{VERSION}-go", f"golang-{VERSION}-src")
# Without symbols a program is a third smaller, and nodes are small.
_LINKER_FLAGS = "-s -w"


@dataclass(frozen=True, kw_only=True)
class Compiler:
    """The unpacked compiler: ``root`` is where the packages' ``/`` is."""

    root: Path

    @property
    def home(self) -> Path:
        """What Go calls GOROOT."""
        return self.root / "usr" / "lib" / f"go-{VERSION}"

    def environment(self, work: Path) -> dict[str, str]:
        """Return what Go is told: it writes into ``work`` only, and asks no network."""
        return {
            "GOPATH": str(work / "go"),
            "GOROOT": str(self.home),
            "GOCACHE": str(work / "go-cache"),
            "GOENV": "off",
            "GOFLAGS": "",
            "GO111MODULE": "off",
            "GOPROXY": "off",
            "CGO_ENABLED": "0",
        }

    def build(self, package: str, output: Path, *, source: Path, work: Path, flags: str) -> None:
        """Compile a main package, seen from the folder ``source``, into a static program.

        ``flags`` are the linker's. Raises LabError with the compiler's words.
        """
        options = ["-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", str(output)]
        run(
            [self.home / "bin" / "go", "build", *options, package],
            cwd=source,
            env=self.environment(work),
        )
        output.chmod(0o755)


def compiler(cache: Path, mirror: Mirror) -> Compiler:
    """Return the compiler, downloaded and unpacked first if the cache has it not.

    Raises LabError with the words of apt.
    """
    name = digest(mirror.sources(), *PACKAGES)
    return Compiler(root=cached(cache / f"golang-{name}", lambda root: _unpack(root, mirror)))


def _unpack(root: Path, mirror: Mirror) -> None:
    unpack(root, mirror, *PACKAGES)
    # Half of it is the library compiled in a way that we do not ask for.
    run(["rm", "-rf", Compiler(root=root).home / "pkg" / "linux_amd64"])


def program(cache: Path, mirror: Mirror, folder: Path) -> Path:
    """Return the main package in ``folder`` as a static program, compiled first if need be.

    It may use the standard library only. It is called as its folder is, and cached under the
    digest of its sources. Raises LabError with the compiler's words.
    """
    sources = sorted(path for path in folder.glob("*.go") if not path.name.endswith("_test.go"))
    texts = [item for path in sources for item in (path.name, path.read_bytes())]
    name = digest(*PACKAGES, _LINKER_FLAGS, *texts)

    def build(target: Path) -> None:
        work, output = target / "work", target / folder.name
        tools = compiler(cache, mirror)
        tools.build(".", output, source=folder, work=work, flags=_LINKER_FLAGS)
        run(["rm", "-rf", work])

    return cached(cache / f"{folder.name}-{name}", build) / folder.name
