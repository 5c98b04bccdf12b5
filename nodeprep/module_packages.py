"""Which package has the modules that the running kernel lacks, and never one of a newer kernel.

Vendors split a kernel's modules over packages, differently in each release. Two things decide: the
package that owns the running kernel's own folder, and those of the same version beside it.

Sources: kernel.spec of Fedora and EL (``kernel-modules``, ``kernel-modules-extra``, and for EL 10
kubernetes/kops#18724), k3s-io/k3s-ansible#536 (an unpinned name brings a newer kernel) and #531
(Oracle's ``kernel-uek-modules-extra``), Ubuntu's ``linux-modules-extra``, kubespray#10602 (Ubuntu's
kvm kernels have no IPVS), SUSE's ``kernel-default-base``, vmware/photon#735.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from nodeprep.package_managers import WHICH, manager
from nodeprep.shell import words


@dataclass(frozen=True)
class Package:
    """A package of the node's. ``version`` is the family's own, with the architecture for rpm."""

    name: str
    version: str = ""

    def __str__(self) -> str:
        return f"{self.name}-{self.version}" if self.version else self.name


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the running kernel is from.

    ``manager`` is the node's package manager, ``owner`` the package that has the kernel's folder,
    ``beside`` are the kernel's other packages; all empty where nobody was asked.
    """

    manager: str = ""
    owner: Package = Package("")
    beside: tuple[Package, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """What brings a missing module.

    ``packages`` are pinned to the running kernel and can be installed as they are; ``hint`` says
    what a person types. There are no packages where a reboot or a choice is part of it.
    """

    packages: tuple[str, ...] = ()
    hint: str = ""


# The folder's own list is owned by the package of the kernel itself.
ASK_ORIGIN = f"""\
{WHICH}
list=/lib/modules/$release/modules.builtin
if owner=$(rpm -qf --qf '%{{NAME}} %{{VERSION}}-%{{RELEASE}}.%{{ARCH}}\\n' "$list"); then
  printf 'owner %s\\n' "$owner"
  rpm -qa --qf 'beside %{{NAME}} %{{VERSION}}-%{{RELEASE}}.%{{ARCH}}\\n' 'kernel*'
elif owner=$(dpkg-query -S "*$list"); then
  printf 'owner %s\\n' "${{owner%%:*}}"
elif owner=$(apk info -q -W "$list"); then
  printf 'owner %s\\n' "$owner"
fi"""
"""Statements that print where ``$release`` is from, as :func:`parse_origin` reads it."""


def parse_origin(lines: Iterable[str]) -> Origin:
    """Read ``manager NAME``, ``owner NAME [VERSION]``, then ``beside NAME VERSION``."""
    rows = [line.split() for line in lines if len(line.split()) in (2, 3)]
    single = {kind: rest for kind, *rest in reversed(rows)}
    return Origin(
        manager=single.get("manager", [""])[0],
        owner=Package(*single.get("owner", [""])),
        beside=tuple(Package(*rest) for kind, *rest in rows if kind == "beside"),
    )


def remedy(release: str, origin: Origin) -> Remedy:
    """Return what brings modules that the kernel ``release`` should have and has not."""
    owner = origin.owner
    if not owner.name:
        return Remedy(hint=f"install the modules of {release}: no package here owns its folder")
    if owner.version:
        return _of_rpm(release, origin)
    if origin.manager == "apt":
        return _of_apt(release, owner.name)
    return Remedy(hint=f"install {owner.name} again: it has the modules of {release}")


def _of_rpm(release: str, origin: Origin) -> Remedy:
    owner, version = origin.owner.name, origin.owner.version
    if owner == "kernel-default-base":
        return Remedy(
            hint=f"install kernel-default, then reboot: {owner} has only a part of the modules"
        )
    if owner.startswith("linux"):
        return Remedy(hint=f"tdnf update {words(owner)}, then reboot")
    kernel = _split_off(owner)
    if not kernel:
        return Remedy(hint=f"reinstall {origin.owner}: it has all modules of {release}")
    wanted = (Package(f"{kernel}-modules", version), Package(f"{kernel}-modules-extra", version))
    missing = tuple(str(package) for package in wanted if package not in origin.beside)
    if not missing:
        return Remedy(hint=f"no package of {release} has it: boot another kernel")
    return _pinned(origin.manager, missing)


def _split_off(owner: str) -> str:
    """Return the name before ``-core`` and ``-modules``; empty where one package has it all."""
    split = re.fullmatch(r"(kernel(?:-[a-z0-9]+)*?)(?:-modules)?(?:-core)?", owner)
    return split[1] if split and split[1] != owner else ""


def _pinned(manager_name: str, packages: tuple[str, ...]) -> Remedy:
    hint = f"{manager_name} install {words(*packages)}"
    family = manager(manager_name)
    if family.install is None:
        return Remedy(hint=f"install {words(*packages)} by hand")
    if family.at_next_boot:
        return Remedy(hint=f"{hint}, then reboot")
    return Remedy(packages=packages, hint=f"{hint}; or set `module_packages: install`")


def _of_apt(release: str, owner: str) -> Remedy:
    if release.endswith("-kvm"):
        return Remedy(hint="apt-get install linux-image-generic, then reboot: kvm kernels lack it")
    if owner == f"linux-modules-{release}" and not release.endswith(("amd64", "arm64")):
        return _pinned("apt", (f"linux-modules-extra-{release}",))
    return Remedy(hint=f"apt-get install --reinstall {words(owner)}")
