"""Which package has a missing module: pinned to the running kernel, in every vendor's own way."""

import pytest

from nodeprep.module_packages import Origin, Package, Remedy, parse_origin, remedy


def of_rpm(owner: str, version: str, *beside: str, manager: str = "dnf") -> Origin:
    return Origin(
        manager=manager,
        owner=Package(owner, version),
        beside=tuple(Package(name, version) for name in (owner, *beside)),
    )


EL8 = "4.18.0-553.el8_10.x86_64"
EL9 = "5.14.0-503.11.1.el9_5.aarch64"
EL10 = "6.12.0-124.8.1.el10_1.x86_64"
UEK = "5.15.0-304.171.4.el9uek.x86_64"


@pytest.mark.parametrize(
    ("origin", "packages"),
    [
        (of_rpm("kernel-core", EL8), (f"kernel-modules-{EL8}", f"kernel-modules-extra-{EL8}")),
        (of_rpm("kernel-modules-core", EL9, "kernel-modules"), (f"kernel-modules-extra-{EL9}",)),
        (of_rpm("kernel-modules-core", EL10, "kernel-modules"), (f"kernel-modules-extra-{EL10}",)),
        (
            of_rpm("kernel-uek-core", UEK, "kernel-uek-modules"),
            (f"kernel-uek-modules-extra-{UEK}",),
        ),
        (
            of_rpm("kernel-64k-modules-core", EL9, "kernel-64k-modules"),
            (f"kernel-64k-modules-extra-{EL9}",),
        ),
    ],
)
def test_enterprise_linux_splits_modules_off(origin: Origin, packages: tuple[str, ...]) -> None:
    found = remedy("whatever", origin)
    assert found.packages == packages
    assert found.hint == f"dnf install {' '.join(packages)}; or set `module_packages: install`"


def test_a_package_of_another_kernel_does_not_count() -> None:
    origin = Origin(
        manager="dnf",
        owner=Package("kernel-core", EL10),
        beside=(Package("kernel-modules", EL10), Package("kernel-modules-extra", EL9)),
    )
    assert remedy("x", origin).packages == (f"kernel-modules-extra-{EL10}",)


def test_a_kernel_whose_packages_are_all_there_never_had_the_module() -> None:
    origin = of_rpm("kernel-core", EL8, "kernel-modules", "kernel-modules-extra")
    assert remedy("4.18.0", origin) == Remedy(
        hint="no package of 4.18.0 has it: boot another kernel"
    )


@pytest.mark.parametrize("owner", ["kernel", "kernel-default", "kernel-uek"])
def test_a_kernel_in_one_package_is_reinstalled_as_it_is(owner: str) -> None:
    found = remedy("4.19.90", of_rpm(owner, "4.19.90-1.oe1.x86_64"))
    assert found == Remedy(
        hint=f"reinstall {owner}-4.19.90-1.oe1.x86_64: it has all modules of 4.19.90"
    )


@pytest.mark.parametrize(
    ("origin", "hint"),
    [
        (
            of_rpm("kernel-default-base", "5.14.21-1.x86_64", manager="zypper"),
            (
                "install kernel-default, then reboot: kernel-default-base has only a part of the "
                "modules"
            ),
        ),
        (
            of_rpm("linux-esx", "5.10.4-1.ph4.x86_64", manager="tdnf"),
            "tdnf update linux-esx, then reboot",
        ),
        (
            of_rpm("kernel-core", EL10, "kernel-modules", manager="rpm-ostree"),
            f"rpm-ostree install kernel-modules-extra-{EL10}, then reboot",
        ),
    ],
)
def test_what_a_reboot_brings_is_said_and_never_installed_by_us(origin: Origin, hint: str) -> None:
    assert remedy("x", origin) == Remedy(hint=hint)


@pytest.mark.parametrize("flavour", ["generic", "aws", "azure", "lowlatency"])
def test_ubuntu_keeps_the_extra_modules_apart(flavour: str) -> None:
    release = f"5.15.0-91-{flavour}"
    origin = Origin(manager="apt", owner=Package(f"linux-modules-{release}"))
    assert remedy(release, origin).packages == (f"linux-modules-extra-{release}",)


def test_ubuntus_kvm_kernels_have_no_ipvs_at_all() -> None:
    release = "5.15.0-1048-kvm"
    origin = Origin(manager="apt", owner=Package(f"linux-modules-{release}"))
    assert remedy(release, origin) == Remedy(
        hint="apt-get install linux-image-generic, then reboot: kvm kernels lack it"
    )


def test_debians_kernel_is_one_package() -> None:
    origin = Origin(manager="apt", owner=Package("linux-image-6.1.0-37-cloud-amd64"))
    assert remedy("6.1.0-37-cloud-amd64", origin) == Remedy(
        hint="apt-get install --reinstall linux-image-6.1.0-37-cloud-amd64"
    )


def test_a_kernel_that_no_package_owns_is_for_a_person() -> None:
    assert remedy("6.1.0-own", Origin(manager="dnf")).packages == ()
    assert "no package here owns its folder" in remedy("6.1.0-own", Origin()).hint


def test_the_answer_of_the_node_is_read_line_by_line() -> None:
    lines = ["manager dnf", f"owner kernel-core {EL8}", f"beside kernel-core {EL8}", "", "noise"]
    assert parse_origin(lines) == of_rpm("kernel-core", EL8)
    assert parse_origin([]) == Origin()
