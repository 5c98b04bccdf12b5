"""A real kube-proxy for the lab, built from Debian's source package ``kubernetes``.

Nothing is installed on the host: apt downloads the source and Debian's Go compiler into the
cache, where they are unpacked, used and thrown away. Measured: 150 MB of download, about two
minutes on two cores, 1.5 GB of disk while it builds.
"""

from pathlib import Path

from nodeprep.errors import LabError
from nodeprep.lab.cache import cached, digest
from nodeprep.lab.mirror import Mirror, PrivateApt
from nodeprep.lab.programs import find, run

VERSION = "1.20.2"
_GO = "1.19"
_GO_PACKAGES = (f"golang-{_GO}-go", f"golang-{_GO}-src")
_IMPORT_PATH = "k8s.io/kubernetes"
# With a vendor folder the linker knows the package by its place in there.
_VERSION_PACKAGE = f"{_IMPORT_PATH}/vendor/k8s.io/component-base/version"


def kube_proxy(cache: Path, mirror: Mirror) -> Path:
    """Return the program, built first if the cache has it not.

    Raises LabError if dpkg-dev is not installed, or with the words of apt or the compiler.
    """
    if find("dpkg-source") is None:
        raise LabError("not installed: dpkg-dev", hint="apt-get install dpkg-dev")
    name = digest(mirror.sources("deb-src"), VERSION, *_GO_PACKAGES, linker_flags())
    folder = cached(cache / f"kube-proxy-{name}", lambda folder: _build(folder, mirror))
    return folder / "kube-proxy"


def _build(folder: Path, mirror: Mirror) -> None:
    work = folder / "work"
    apt = PrivateApt(folder=work / "apt", status=work / "nothing-installed")
    apt.folder.mkdir(parents=True)
    apt.status.touch()
    apt.prepare(mirror, "deb", "deb-src")
    compiler = _compiler(work, apt)
    source = _source(work, apt)
    _compile(compiler, source, work, folder / "kube-proxy")
    run(["rm", "-rf", work])


def _compiler(work: Path, apt: PrivateApt) -> Path:
    """Unpack Debian's Go without installing it, and return the program."""
    apt.get("download", *_GO_PACKAGES, cwd=work)
    for package in work.glob("golang-*.deb"):
        run(["dpkg-deb", "--extract", package, work / "root"])
    return work / "root" / "usr" / "lib" / f"go-{_GO}" / "bin" / "go"


def _source(work: Path, apt: PrivateApt) -> Path:
    """Unpack the source where a GOPATH wants it, and return its folder."""
    apt.get("source", "--download-only", "kubernetes", cwd=work)
    # Debian calls it 1.20.5+really1.20.2.
    description = next(work.glob(f"kubernetes_*{VERSION}-*.dsc"), None)
    if description is None:
        raise LabError(f"the mirror has another Kubernetes than {VERSION}")
    source = work / "go" / "src" / _IMPORT_PATH
    source.parent.mkdir(parents=True)
    # apt has checked the description against the archive's signed lists.
    run(["dpkg-source", "--no-check", "--extract", description, source])
    return source


def _compile(compiler: Path, source: Path, work: Path, program: Path) -> None:
    options = ["-trimpath", "-ldflags", linker_flags(), "-o", str(program)]
    run([compiler, "build", *options, "./cmd/kube-proxy"], cwd=source, env=environment(work))
    program.chmod(0o755)


def environment(work: Path) -> dict[str, str]:
    """Return what Go is told: it stays in its folder and asks no network."""
    return {
        "GOPATH": str(work / "go"),
        "GOROOT": str(work / "root" / "usr" / "lib" / f"go-{_GO}"),
        "GOCACHE": str(work / "go-cache"),
        "GOENV": "off",
        "GOFLAGS": "",
        "GO111MODULE": "off",
        "GOPROXY": "off",
        "CGO_ENABLED": "0",
    }


def linker_flags() -> str:
    """Return the linker's flags: no symbols, and the version that ``--version`` tells."""
    major, minor, _ = VERSION.split(".")
    facts = {
        "gitVersion": f"v{VERSION}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
    }
    settings = (f"-X {_VERSION_PACKAGE}.{name}={value}" for name, value in facts.items())
    return " ".join(("-s", "-w", *settings))
