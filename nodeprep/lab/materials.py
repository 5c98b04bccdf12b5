"""What a lab is made of: all of it comes out of the cache, and what is not there is made first."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nodeprep.lab import (
    acceleration,
    control_plane,
    etcd,
    golang,
    kinds,
    kubectl,
    kubernetes,
    mirror,
    repository,
)
from nodeprep.lab.image import Image, image
from nodeprep.lab.settings import Settings

Say = Callable[[str], None]
_PROGRAMS = Path(__file__).parent / "guest" / "programs"
_TRAFFIC = "lab-traffic"
_STAND_IN = "kube-proxy-stand-in"
_NODE_AGENT = "lab-node-agent"


@dataclass(frozen=True, kw_only=True)
class Materials:
    """Images and folders of packages by kind, and programs.

    ``programs`` go onto the nodes, ``container_images`` into their pods; ``control_plane`` is None
    where no cluster is wanted.
    """

    images: Mapping[str, Image]
    packages: Mapping[str, Path]
    programs: tuple[Path, ...]
    container_images: tuple[Path, ...]
    control_plane: control_plane.Programs | None
    accelerator: str


def gather(settings: Settings, say: Say) -> Materials:
    """Take image, packages and all else from the cache. Raises LabError if something fails."""
    source = mirror.read()
    images, packages = {}, {}
    for name in dict.fromkeys(settings.kinds):
        kind = kinds.with_packages(kinds.kind(name), settings.installed)
        say(f"{name} image: Debian's packages and kernel (a minute, the first time)")
        images[name] = image(settings.cache, source, kind)
        say(f"{name} packages: what nodes install")
        packages[name] = repository.repository(
            settings.cache, source, images[name], kind, settings.packages
        )
    return Materials(
        images=images,
        packages=packages,
        control_plane=_control_programs(settings, source, say),
        programs=tuple(_node_programs(settings, source, say)),
        container_images=tuple(_container_images(settings, source)),
        accelerator=acceleration.accelerator(settings.cache, next(iter(images.values()))),
    )


def _control_programs(
    settings: Settings, source: mirror.Mirror, say: Say
) -> control_plane.Programs | None:
    if not settings.cluster:
        return None
    say("kube-apiserver: built from Debian's source (minutes, the first time)")
    # First, because it brings kube-proxy along.
    apiserver = kubernetes.kube_apiserver(settings.cache, source)
    return control_plane.Programs(etcd=etcd.etcd(settings.cache, source), apiserver=apiserver)


def _node_programs(settings: Settings, source: mirror.Mirror, say: Say) -> Iterator[Path]:
    if settings.kubeadm:
        say("kubectl: Debian's own")
        yield kubectl.kubectl(settings.cache, source)
        yield from _own(settings, source, _NODE_AGENT, _TRAFFIC)
        return
    if settings.kube_proxy or settings.cluster:
        say("kube-proxy: built from Debian's source (minutes, the first time)")
        yield kubernetes.kube_proxy(settings.cache, source)
    if settings.cluster:
        yield from _own(settings, source, _TRAFFIC, _STAND_IN)


def _container_images(settings: Settings, source: mirror.Mirror) -> Iterator[Path]:
    """Yield what is in pods' images, and so is none of the node's own programs."""
    if settings.kubeadm:
        yield kubernetes.kube_proxy(settings.cache, source)
        yield from _own(settings, source, _STAND_IN)


def _own(settings: Settings, source: mirror.Mirror, *names: str) -> Iterator[Path]:
    for name in names:
        yield golang.program(settings.cache, source, _PROGRAMS / name)
