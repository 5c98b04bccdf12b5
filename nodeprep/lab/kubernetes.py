"""A real kube-proxy and a real kube-apiserver, built from Debian's source package ``kubernetes``.

Nothing is installed on the host: apt downloads the source into the cache, where it is unpacked,
compiled and thrown away. Measured on two cores: kube-proxy two minutes, kube-apiserver six, which
builds kube-proxy on the way; 1.5 GB of disk meanwhile.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nodeprep.errors import LabError
from nodeprep.lab.cache import cached, digest
from nodeprep.lab.golang import PACKAGES, Compiler, compiler
from nodeprep.lab.mirror import Mirror, bare_apt
from nodeprep.lab.programs import find, run

VERSION = "1.20.2"
_IMPORT_PATH = "k8s.io/kubernetes"
# With a vendor folder the linker knows the package by its place in there.
_VERSION_PACKAGE = f"{_IMPORT_PATH}/vendor/k8s.io/component-base/version"
_GENERATOR = "./vendor/k8s.io/kube-openapi/cmd/openapi-gen"
_GENERATED = f"{_IMPORT_PATH}/pkg/generated/openapi"
_DESCRIBED = re.compile(r"^// *\+k8s:openapi-gen=", re.MULTILINE)
# Upstream's own rule leaves these two out: they are examples.
_EXAMPLES = ("vendor/k8s.io/code-generator/", "vendor/k8s.io/sample-apiserver/")


@dataclass(frozen=True, kw_only=True)
class Source:
    """The source, unpacked in ``work`` where a GOPATH wants it, and what compiles it."""

    tools: Compiler
    work: Path

    @property
    def folder(self) -> Path:
        """The top of the source."""
        return self.work / "go" / "src" / _IMPORT_PATH

    def compile(self, package: str, program: Path) -> None:
        """Compile a main package, such as ``./cmd/kube-proxy``."""
        self.tools.build(package, program, source=self.folder, work=self.work, flags=linker_flags())


def kube_proxy(cache: Path, mirror: Mirror) -> Path:
    """Return the program, built first if the cache has it not.

    Raises LabError if dpkg-dev is not installed, or with the words of apt or the compiler.
    """

    def build(folder: Path) -> None:
        source = _unpack(folder / "work", cache, mirror)
        source.compile("./cmd/kube-proxy", folder / "kube-proxy")
        run(["rm", "-rf", source.work])

    return cached(_place(cache, "kube-proxy", mirror), build) / "kube-proxy"


def kube_apiserver(cache: Path, mirror: Mirror) -> Path:
    """Return the program, built first if the cache has it not, and kube-proxy along with it.

    Raises LabError as ``kube_proxy`` does.
    """

    def build(folder: Path) -> None:
        source = _unpack(folder / "work", cache, mirror)
        cached(
            _place(cache, "kube-proxy", mirror),
            lambda proxy: source.compile("./cmd/kube-proxy", proxy / "kube-proxy"),
        )
        _describe(source)
        source.compile("./cmd/kube-apiserver", folder / "kube-apiserver")
        run(["rm", "-rf", source.work])

    return cached(_place(cache, "kube-apiserver", mirror), build) / "kube-apiserver"


def _place(cache: Path, program: str, mirror: Mirror) -> Path:
    name = digest(mirror.sources("deb-src"), VERSION, *PACKAGES, linker_flags())
    return cache / f"{program}-{name}"


def _unpack(work: Path, cache: Path, mirror: Mirror) -> Source:
    """Download and unpack the source."""
    if find("dpkg-source") is None:
        raise LabError("not installed: dpkg-dev", hint="apt-get install dpkg-dev")
    source = Source(tools=compiler(cache, mirror), work=work)
    apt = bare_apt(work, mirror, "deb-src")
    apt.get("source", "--download-only", "kubernetes", cwd=work)
    # Debian calls it 1.20.5+really1.20.2.
    description = next(work.glob(f"kubernetes_*{VERSION}-*.dsc"), None)
    if description is None:
        raise LabError(f"the mirror has another Kubernetes than {VERSION}")
    source.folder.parent.mkdir(parents=True)
    # apt has checked the description against the archive's signed lists.
    run(["dpkg-source", "--no-check", "--extract", description, source.folder])
    return source


def _describe(source: Source) -> None:
    """Write the one file of kube-apiserver that is not in the source: its API's description.

    It has to be of all packages that ask for it: with fewer kube-apiserver builds, and stops as
    soon as it starts.
    """
    generator = source.work / "openapi-gen"
    source.compile(_GENERATOR, generator)
    packages = (f"{_IMPORT_PATH}/{place}" for place in described(source.folder))
    boilerplate = source.folder / "hack" / "boilerplate" / "boilerplate.generatego.txt"
    run(
        [
            *(generator, "--input-dirs", ",".join(packages)),
            *("--output-package", _GENERATED, "--output-file-base", "zz_generated.openapi"),
            *("--go-header-file", boilerplate, "--report-filename", source.work / "violations"),
        ],
        cwd=source.folder,
        env=source.tools.environment(source.work),
    )


def described(source: Path) -> list[str]:
    """Return the packages in which any file asks for a description, seen from the source's top.

    What is staged in Kubernetes' own source is known by its place in the vendor folder.
    """
    places = {_place_of(path.parent, source) for path in _asking(source)}
    return sorted(place for place in places if not place.startswith(_EXAMPLES))


def _asking(source: Path) -> Iterable[Path]:
    for top in ("pkg", "staging/src"):
        for path in (source / top).rglob("*.go"):
            if _DESCRIBED.search(path.read_text()):
                yield path


def _place_of(package: Path, source: Path) -> str:
    return str(package.relative_to(source)).replace("staging/src/", "vendor/", 1)


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
