"""The nodes' own programs, compiled as for a node and tried on this machine's loopback."""

import json
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nodeprep.lab import golang, mirror
from nodeprep.lab.settings import default_cache

pytestmark = pytest.mark.lab

PROGRAMS = Path(golang.__file__).parent / "guest" / "programs"
HERE = "127.78.2.250"
NOBODY = "127.78.2.251:1"


@pytest.fixture(scope="module")
def traffic() -> Path:
    return compiled("lab-traffic")


@pytest.fixture(scope="module")
def stand_in() -> Path:
    return compiled("kube-proxy-stand-in")


def compiled(name: str) -> Path:
    return golang.program(default_cache(), mirror.read(), PROGRAMS / name)


@pytest.fixture
def server(traffic: Path) -> Iterator[str]:
    with serving(traffic, free_port()) as address:
        yield address


def free_port() -> int:
    with socket.create_server((HERE, 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def serving(traffic: Path, port: int) -> Iterator[str]:
    address = f"{HERE}:{port}"
    words = [str(traffic), "serve", "--tcp", address, "--udp", address]
    with subprocess.Popen(words) as process:
        try:
            wait_for(lambda: connects(port))
            yield address
        finally:
            process.kill()


def connects(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((HERE, port)) == 0


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def load(traffic: Path, *words: str) -> Any:
    run = subprocess.run([traffic, "load", *words], check=True, capture_output=True)
    return json.loads(run.stdout)


def connect(address: str) -> socket.socket:
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=5)


def test_a_connection_is_greeted_and_then_echoed(server: str) -> None:
    with connect(server) as client, client.makefile("rw") as lines:
        assert lines.readline() == f"hello from {HERE}\n"
        lines.write("one\ntwo\n")
        lines.flush()
        assert [lines.readline(), lines.readline()] == ["one\n", "two\n"]


def test_a_page_is_answered_with_the_greeting(server: str) -> None:
    with urllib.request.urlopen(f"http://{server}/healthz", timeout=5) as page:
        assert page.read().decode() == f"hello from {HERE}\n"


@pytest.mark.parametrize("network", [[], ["--udp"]])
def test_who_answered_is_told(traffic: Path, server: str, network: list[str]) -> None:
    words = [str(traffic), "ask", *network, "--to", server, "--times", "2"]
    assert subprocess.check_output(words, text=True) == f"hello from {HERE}\n" * 2


def test_load_on_a_server_that_answers_loses_nothing(traffic: Path, server: str) -> None:
    told = load(traffic, "--to", server, "--rate", "100", "--seconds", "1")
    assert (told["attempted"], told["failed"], told["longest_gap"]) == (100, 0, 0)
    assert told["first_failure"] is None
    assert 0 < told["latency_ms"]["p50"] <= told["latency_ms"]["max"] < 1000


def test_load_of_datagrams_loses_nothing_either(traffic: Path, server: str) -> None:
    told = load(traffic, "--udp", "--to", server, "--rate", "100", "--seconds", "0.5")
    assert (told["attempted"], told["failed"]) == (50, 0)


@pytest.mark.parametrize("network", [[], ["--udp"]])
def test_load_counts_each_connection_where_nobody_answers(
    traffic: Path, network: list[str]
) -> None:
    told = load(traffic, *network, "--to", NOBODY, "--rate", "50", "--seconds", "1")
    assert (told["attempted"], told["failed"]) == (50, 50)
    assert told["failures"][0]["error"] == "connection refused"
    assert len(told["failures"]) == 20
    assert told["first_failure"] < 0.1
    assert told["longest_gap"] == told["last_failure"] > 0.9


def test_a_server_that_accepts_and_says_nothing_is_a_failure(traffic: Path) -> None:
    with socket.create_server((HERE, 0)) as silent:
        to = f"{HERE}:{silent.getsockname()[1]}"
        words = ["--rate", "10", "--seconds", "0.5", "--patience", "300ms"]
        told = load(traffic, "--to", to, *words)
    assert (told["failed"], told["failures"][0]["error"]) == (5, "connected, but no answer")


def test_an_answer_of_somebody_else_is_a_failure(traffic: Path) -> None:
    def answer(listener: socket.socket) -> None:
        for _ in range(5):
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nprobe\n")

    with socket.create_server((HERE, 0)) as proxy:
        to = f"{HERE}:{proxy.getsockname()[1]}"
        with ThreadPoolExecutor() as threads:
            threads.submit(answer, proxy)
            told = load(traffic, "--to", to, "--rate", "10", "--seconds", "0.5")
    assert (told["failed"], told["failures"][0]["error"]) == (5, "somebody else answered")


def test_load_tells_how_long_a_gap_was(traffic: Path, tmp_path: Path) -> None:
    port, out, enough = free_port(), tmp_path / "load.json", tmp_path / "enough"
    words = ["--to", f"{HERE}:{port}", "--out", str(out), "--until", str(enough)]
    with serving(traffic, port):
        process = subprocess.Popen([traffic, "load", *words])
        time.sleep(0.6)
    time.sleep(0.5)
    with serving(traffic, port):
        time.sleep(0.6)
        enough.touch()
        assert process.wait(10) == 0
    told = json.loads(out.read_text())
    assert told["done"]
    assert 0.4 < told["longest_gap"] < 1.5
    assert 0 < told["failed"] < told["attempted"]


def test_load_can_be_watched_and_ended(traffic: Path, server: str, tmp_path: Path) -> None:
    out = tmp_path / "load.json"
    process = subprocess.Popen([traffic, "load", "--to", server, "--out", out])
    wait_for(out.exists)
    assert not json.loads(out.read_text())["done"]
    process.terminate()
    assert process.wait(10) == 0
    assert json.loads(out.read_text())["done"]


def hold(traffic: Path, server: str, out: Path) -> subprocess.Popen[bytes]:
    words = ["--to", server, "--out", str(out), "--every", "50ms"]
    process = subprocess.Popen([traffic, "hold", *words])
    wait_for(out.exists)
    return process


def test_a_connection_that_is_held_is_alive_to_the_end(
    traffic: Path, server: str, tmp_path: Path
) -> None:
    out = tmp_path / "hold.json"
    process = hold(traffic, server, out)
    process.terminate()
    assert process.wait(10) == 0
    told = json.loads(out.read_text())
    assert (told["alive"], told["done"], told["error"]) == (True, True, "")
    assert told["echoed"] == told["sent"] > 0
    assert told["greeting"] == f"hello from {HERE}"
    assert told["remote"] == server


def test_a_held_connection_notices_a_cut(traffic: Path, tmp_path: Path) -> None:
    out = tmp_path / "hold.json"
    with serving(traffic, free_port()) as server:
        process = hold(traffic, server, out)
    wait_for(lambda: not json.loads(out.read_text())["alive"])
    process.terminate()
    assert process.wait(10) == 0
    told = json.loads(out.read_text())
    assert not told["alive"]
    assert told["error"]
    assert told["echoed"] < told["sent"]


def test_the_stand_in_says_what_it_is(stand_in: Path) -> None:
    said = subprocess.check_output([stand_in, "--version"], text=True)
    assert re.fullmatch(r"Kubernetes v1\.33\.\d+-nftables-stand-in\n", said)
    shown = subprocess.run([stand_in, "--help"], check=False, capture_output=True, text=True)
    assert "It is not kube-proxy." in shown.stderr
