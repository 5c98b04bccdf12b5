"""What the image and the seed disk are made of."""

import io
import tarfile
from pathlib import Path

from nodeprep.lab import image, objects, seed
from nodeprep.lab.mirror import Mirror

SEED_FILES = {
    "etc/hostname": (0o644, "node1\n"),
    "etc/ssh/ssh_host_ed25519_key": (0o600, "PRIVATE"),
}


def entries(archive: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {entry.name: entry for entry in opened}


def test_equal_files_make_an_equal_tar() -> None:
    assert image.guest_files() == image.guest_files()


def test_everything_in_the_image_is_roots_and_only_scripts_may_be_run() -> None:
    found = entries(image.guest_files())
    assert {entry.uid for entry in found.values()} == {0}
    assert found["usr/lib/nodeprep-lab/seed"].mode == 0o755
    assert found["usr/lib/nodeprep-lab/customize"].mode == 0o755
    assert found["etc/ssh/sshd_config.d/lab.conf"].mode == 0o644


def test_mmdebstrap_gets_the_hosts_proxy() -> None:
    mirror = Mirror(archives=(), options=('Acquire::http::Proxy "http://proxy.example:3128";',))
    command = image.bootstrap_command(Path("/build"), mirror)
    assert '--aptopt=Acquire::http::Proxy "http://proxy.example:3128";' in command
    assert command[-3:] == ["bookworm", "/build/root.tar", "/build/sources.list"]


def test_a_seed_keeps_a_private_key_private() -> None:
    found = entries(seed.tar(SEED_FILES))
    assert found["etc/ssh/ssh_host_ed25519_key"].mode == 0o600
    assert {entry.uid for entry in found.values()} == {0}


def seed_of(folder: Path, **more: tuple[str, ...]) -> seed.Seed:
    (folder / "key").write_text("PRIVATE")
    (folder / "key.pub").write_text("ssh-ed25519 AAAA node1")
    return seed.Seed(
        hostname="node1",
        host_key=folder / "key",
        authorized_key="ssh-ed25519 BBBB",
        guarded_password="canary",
        repository="http://10.0.2.2:8000",
        **more,  # type: ignore[arg-type]
    )


def test_a_seed_says_who_a_node_is(tmp_path: Path) -> None:
    files = {name: text for name, (_, text) in seed_of(tmp_path).files().items()}
    assert files["etc/hostname"] == "node1\n"
    assert files["etc/ssh/lab_authorized_keys"] == "ssh-ed25519 BBBB\n"
    assert files["etc/apt/sources.list"] == "deb [trusted=yes] http://10.0.2.2:8000 ./\n"
    assert "canary" not in "".join(files.values())


def test_only_a_node_of_a_cluster_has_endpoints(tmp_path: Path) -> None:
    assert "etc/lab-endpoints" not in seed_of(tmp_path).files()
    seed_with = seed_of(tmp_path, endpoints=("10.244.0.11", "10.244.0.12"))
    assert seed_with.files()["etc/lab-endpoints"] == (0o644, "10.244.0.11\n10.244.0.12\n")


def test_the_endpoints_serve_where_the_services_lead() -> None:
    script = (image.GUEST / "files/usr/lib/nodeprep-lab/endpoints").read_text()
    tcp, udp = objects.TARGET_PORTS["TCP"], objects.TARGET_PORTS["UDP"]
    assert f'--tcp "$address:{tcp}" --udp "$address:{udp}"' in script
