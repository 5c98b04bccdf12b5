"""known_hosts files mean to nodeprep what they mean to OpenSSH."""

import base64
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeprep import known_hosts
from nodeprep.known_hosts import Entry, Verdict

pytestmark = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed"
)


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Public keys that ssh-keygen made, as ``TYPE BASE64``."""

    one: str
    two: str
    rsa: str
    folder: Path


def made(folder: Path, name: str, kind: str = "ed25519") -> str:
    path = folder / name
    size = ("-b", "2048") if kind == "rsa" else ()
    subprocess.run(
        ("ssh-keygen", "-q", "-t", kind, *size, "-N", "", "-C", "", "-f", path), check=True
    )
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    return Keys(
        one=made(folder, "one"),
        two=made(folder, "two"),
        rsa=made(folder, "r", "rsa"),
        folder=folder,
    )


def ruling(folder: Path, text: str, host: str, key: str, port: int = 22) -> Verdict:
    """Return what a file of known hosts says of a key that a host shows."""
    file = folder / "known_hosts"
    file.write_text(text)
    known = known_hosts.load([str(file)])
    return known_hosts.verdict(known.of(known_hosts.host_name(host, port)), key.split()[1])


def openssh_finds(folder: Path, host: str) -> bool:
    """Tell whether OpenSSH finds a host in the file that was asked last."""
    found = subprocess.run(
        ("ssh-keygen", "-F", host, "-f", folder / "known_hosts"), check=False, capture_output=True
    )
    return found.returncode == 0


# --- names ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hosts", "host", "port", "known"),
    [
        ("node1", "node1", 22, True),
        ("node1", "node2", 22, False),
        ("node1,10.0.0.1", "10.0.0.1", 22, True),
        ("node1", "node1", 2222, False),
        ("[node1]:2222", "node1", 2222, True),
        ("[node1]:2222", "node1", 22, False),
        ("[10.0.0.1]:2222,[node1]:2222", "node1", 2222, True),
        ("fd00::1", "fd00::1", 22, True),
        ("[fd00::1]:2222", "fd00::1", 2222, True),
        ("Node1.Example.COM", "node1.example.com", 22, True),
        ("node1.example.com", "Node1.Example.COM", 22, True),
        ("*.example.com", "a.example.com", 22, True),
        ("*.example.com", "A.EXAMPLE.com", 22, True),
        ("*.example.com", "example.com", 22, False),
        ("node?", "node1", 22, True),
        ("node?", "node12", 22, False),
        ("[*.example.com]:2222", "a.example.com", 2222, True),
        ("[*.example.com]:2222", "a.example.com", 22, False),
        ("*,!node1", "node1", 22, False),
        ("*,!node1", "node2", 22, True),
        ("!node1", "node2", 22, False),
        ("*.example.com,!db*.example.com", "db7.example.com", 22, False),
        ("10.0.0.*", "10.0.0.77", 22, True),
        ("node[12]", "node1", 22, False),
    ],
)
def test_a_host_is_found_under_the_names_of_its_line(
    keys: Keys, tmp_path: Path, hosts: str, host: str, port: int, known: bool
) -> None:
    said = ruling(tmp_path, f"{hosts} {keys.one} a comment\n", host, keys.one, port)
    assert said == ("known" if known else "unknown")
    assert openssh_finds(tmp_path, known_hosts.host_name(host, port)) is known


@pytest.mark.parametrize(("host", "port"), [("node1", 22), ("Node1", 22), ("node1", 2222)])
def test_a_hashed_host_is_found(keys: Keys, tmp_path: Path, host: str, port: int) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"node1 {keys.one}\n[node1]:2222 {keys.one}\n")
    subprocess.run(("ssh-keygen", "-q", "-H", "-f", file), check=True, capture_output=True)
    hashed = file.read_text()
    assert "node1" not in hashed
    assert ruling(tmp_path, hashed, host, keys.one, port) == "known"
    assert ruling(tmp_path, hashed, host, keys.two, port) == "changed"
    assert ruling(tmp_path, hashed, "node2", keys.one, port) == "unknown"


# --- keys -----------------------------------------------------------------------------------


def test_another_key_is_a_changed_one_whatever_its_type(keys: Keys, tmp_path: Path) -> None:
    text = f"node1 {keys.one}\n"
    assert ruling(tmp_path, text, "node1", keys.one) == "known"
    assert ruling(tmp_path, text, "node1", keys.two) == "changed"
    assert ruling(tmp_path, text, "node1", keys.rsa) == "changed"


def test_any_of_several_keys_of_a_host_will_do(keys: Keys, tmp_path: Path) -> None:
    text = f"node1 {keys.one}\nnode1 {keys.two}\nnode1 {keys.rsa}\n"
    for key in (keys.one, keys.two, keys.rsa):
        assert ruling(tmp_path, text, "node1", key) == "known"


def test_the_keys_of_all_files_count(keys: Keys, tmp_path: Path) -> None:
    mine, ours = tmp_path / "mine", tmp_path / "ours"
    mine.write_text(f"node1 {keys.one}\n")
    ours.write_text(f"* {keys.two}\n")
    known = known_hosts.load([str(mine), str(tmp_path / "absent"), str(tmp_path), str(ours)])
    assert [entry.file for entry in known.of("node1")] == [str(mine), str(ours)]


@pytest.mark.parametrize("text", ["@revoked * {one}\n", "node1 {one}\n@revoked node1 {one}\n"])
def test_a_revoked_key_is_never_known(keys: Keys, tmp_path: Path, text: str) -> None:
    assert ruling(tmp_path, text.format(one=keys.one), "node1", keys.one) == "revoked"


def test_a_revoked_key_says_nothing_of_another(keys: Keys, tmp_path: Path) -> None:
    text = f"@revoked * {keys.one}\n"
    assert ruling(tmp_path, text, "node1", keys.two) == "unknown"
    assert ruling(tmp_path, f"{text}node1 {keys.two}\n", "node1", keys.two) == "known"
    assert ruling(tmp_path, f"{text}node1 {keys.two}\n", "node1", keys.rsa) == "changed"


def test_an_authority_is_no_host_key(keys: Keys, tmp_path: Path) -> None:
    text = f"@cert-authority * {keys.one}\n"
    assert ruling(tmp_path, text, "node1", keys.one) == "unknown"
    assert ruling(tmp_path, text, "node1", keys.two) == "unknown"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "#node1 {key}",
        "  # {key}",
        "node1",
        "node1 ssh-ed25519",
        "@other node1 {key}",
        "|1|x {key}",
    ],
)
def test_lines_that_make_no_sense_are_passed_over(keys: Keys, tmp_path: Path, line: str) -> None:
    text = f"{line.format(key=keys.one)}\nnode2 {keys.two}\n"
    assert ruling(tmp_path, text, "node1", keys.one) == "unknown"
    assert ruling(tmp_path, text, "node2", keys.two) == "known"


HOSTS = st.sampled_from(["node1", "*", "!node1", "|1|x|y", "|1|eA==|eQ==", "|1|", "[node1]:1"])
LINES = st.lists(st.tuples(HOSTS, st.text(max_size=9), st.text(max_size=9)).map(" ".join))


@given(st.binary(max_size=200) | LINES.map(lambda lines: "\n".join(lines).encode()))
def test_any_bytes_are_a_file_of_known_hosts(content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        known = known_hosts.load([file.name])
    for key in ("x", *(entry.key for entry in known.of("node1"))):
        assert known_hosts.verdict(known.of("node1"), key) in (
            "known",
            "unknown",
            "changed",
            "revoked",
        )


def test_a_fingerprint_is_that_of_ssh_keygen(keys: Keys) -> None:
    shown = subprocess.check_output(("ssh-keygen", "-lf", keys.folder / "one.pub")).decode()
    assert known_hosts.fingerprint(keys.one.split()[1]) == shown.split()[1]


# --- size -----------------------------------------------------------------------------------


def test_ten_thousand_lines_are_read_and_looked_up(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    keys = [base64.b64encode(f"key {n}".encode()).decode() for n in range(10_000)]
    file.write_text("".join(f"node{n},10.1.{n} ssh-ed25519 {key}\n" for n, key in enumerate(keys)))
    known = known_hosts.load([str(file)])
    assert all(
        known_hosts.verdict(known.of(f"node{n}"), key) == "known" for n, key in enumerate(keys)
    )


def test_a_thousand_keys_of_one_name_are_all_found(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text("".join(f"node1 ssh-ed25519 key{n}\n" for n in range(1000)))
    entries = known_hosts.load([str(file)]).of("node1")
    assert entries[999] == Entry(
        hosts="node1", key_type="ssh-ed25519", key="key999", revoked=False, file=str(file)
    )
