"""What the image and the seed disk are made of."""

import io
import tarfile
from pathlib import Path

import pytest

from nodeprep.lab import image, objects, seed
from nodeprep.lab.kinds import APT, DNF, KINDS, ZYPPER, Kind, with_packages
from nodeprep.lab.mirror import Mirror

SEED_FILES = {
    "etc/hostname": (0o644, "node1\n"),
    "etc/ssh/ssh_host_ed25519_key": (0o600, "PRIVATE"),
}


def entries(archive: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {entry.name: entry for entry in opened}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_equal_files_make_an_equal_tar(kind: Kind) -> None:
    assert image.guest_files(kind) == image.guest_files(kind)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_everything_in_the_image_is_roots_and_only_scripts_may_be_run(kind: Kind) -> None:
    found = entries(image.guest_files(kind))
    assert {entry.uid for entry in found.values()} == {0}
    assert found["usr/lib/nodeprep-lab/seed"].mode == 0o755
    assert found["usr/lib/nodeprep-lab/customize"].mode == 0o755
    assert found["etc/ssh/sshd_config.d/lab.conf"].mode == 0o644


def test_a_kind_brings_the_settings_of_its_own_package_manager_alone() -> None:
    settings = {"etc/apt/apt.conf.d/90lab", "etc/rpm/macros"}
    assert settings & {*entries(image.guest_files(APT))} == {"etc/apt/apt.conf.d/90lab"}
    assert settings & {*entries(image.guest_files(DNF))} == {"etc/rpm/macros"}
    assert settings & {*entries(image.guest_files(ZYPPER))} == {"etc/rpm/macros"}


def test_only_an_apt_node_is_made_with_apt() -> None:
    mirror = Mirror(archives=(), options=())
    for kind, variant, program in (
        (APT, "minbase", "iptables"),
        (DNF, "essential", "dnf"),
        (ZYPPER, "essential", "zypper"),
    ):
        command = image.bootstrap_command(Path("/build"), mirror, kind)
        (included,) = [word for word in command if word.startswith("--include=")]
        assert f"--variant={variant}" in command
        assert program in included.removeprefix("--include=").split(",")
        assert ("iptables" in included) == (kind is APT)


def test_an_image_has_what_is_asked_for_besides_the_kinds_own() -> None:
    mirror = Mirror(archives=(), options=())
    command = image.bootstrap_command(Path("/build"), mirror, with_packages(APT, ("python3",)))
    (included,) = [word for word in command if word.startswith("--include=")]
    assert included.endswith(",iptables,python3")
    assert with_packages(APT, ()) == APT


def test_mmdebstrap_gets_the_hosts_proxy() -> None:
    mirror = Mirror(archives=(), options=('Acquire::http::Proxy "http://proxy.example:3128";',))
    command = image.bootstrap_command(Path("/build"), mirror, APT)
    assert '--aptopt=Acquire::http::Proxy "http://proxy.example:3128";' in command
    assert command[-3:] == ["bookworm", "/build/root.tar", "/build/sources.list"]


def test_a_seed_keeps_a_private_key_private() -> None:
    found = entries(seed.tar(SEED_FILES))
    assert found["etc/ssh/ssh_host_ed25519_key"].mode == 0o600
    assert {entry.uid for entry in found.values()} == {0}


def seed_of(folder: Path, kind: Kind = APT, **more: tuple[str, ...]) -> seed.Seed:
    (folder / "key").write_text("PRIVATE")
    (folder / "key.pub").write_text("ssh-ed25519 AAAA node1")
    return seed.Seed(
        hostname="node1",
        host_key=folder / "key",
        authorized_key="ssh-ed25519 BBBB",
        guarded_password="canary",
        kind=kind,
        repository=f"http://10.0.2.2:8000/{kind.name}",
        **more,  # type: ignore[arg-type]
    )


def test_a_seed_says_who_a_node_is(tmp_path: Path) -> None:
    files = {name: text for name, (_, text) in seed_of(tmp_path).files().items()}
    assert files["etc/hostname"] == "node1\n"
    assert files["etc/ssh/lab_authorized_keys"] == "ssh-ed25519 BBBB\n"
    assert "canary" not in "".join(files.values())


@pytest.mark.parametrize(
    ("kind", "path", "line"),
    [
        (APT, "etc/apt/sources.list", "deb [trusted=yes] http://10.0.2.2:8000/apt ./"),
        (DNF, "etc/yum.repos.d/lab.repo", "baseurl=http://10.0.2.2:8000/dnf"),
        (ZYPPER, "etc/zypp/repos.d/lab.repo", "baseurl=http://10.0.2.2:8000/zypper"),
    ],
    ids=KINDS,
)
def test_a_seed_says_where_packages_are_in_its_kinds_own_file(
    tmp_path: Path, kind: Kind, path: str, line: str
) -> None:
    files = {name: text for name, (_, text) in seed_of(tmp_path, kind).files().items()}
    assert line in files[path].splitlines()
    others = {one.source for one in KINDS.values()} - {path}
    assert not others & {*files}


def test_only_a_node_of_a_cluster_has_endpoints(tmp_path: Path) -> None:
    assert "etc/lab-endpoints" not in seed_of(tmp_path).files()
    seed_with = seed_of(tmp_path, endpoints=("10.244.0.11", "10.244.0.12"))
    assert seed_with.files()["etc/lab-endpoints"] == (0o644, "10.244.0.11\n10.244.0.12\n")


def test_the_endpoints_serve_where_the_services_lead() -> None:
    script = (image.GUEST / "files/usr/lib/nodeprep-lab/endpoints").read_text()
    tcp, udp = objects.TARGET_PORTS["TCP"], objects.TARGET_PORTS["UDP"]
    assert f'--tcp "$address:{tcp}" --udp "$address:{udp}"' in script
