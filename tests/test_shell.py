"""Quoting arrives byte for byte in every shell, secrets stay unseen, torn scripts run nothing."""

import contextlib
import http.server
import random
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodeprep.model import Desired, KubeProxy
from nodeprep.shell import HTTP_GET, Script, Secret, function, join, quote, whole, words
from tests.shells import Machine, complaints, output, programs

CANARY = 'canary\'s $(touch /tmp/x) `id` \\ "end"'
ANY_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
NASTY = st.text(st.sampled_from("'\"\\$`!*?[]{}~#&|;<>()-=%\n\r\t \x01\x1b\x7f\x80\xa0\u202e"))
MANY = st.lists(ANY_TEXT | NASTY, min_size=1, max_size=150)


def arguments(shell: str, script: Script) -> list[str]:
    printed = output(shell, Script("printf '%s\\0' ") + script + "\n")
    return printed.decode().split("\0")[:-1]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts=MANY)
@pytest.mark.parametrize("name", ["dash", "bash", "busybox"])
def test_any_quoted_text_arrives_byte_for_byte(name: str, texts: list[str]) -> None:
    assert arguments(name, join([quote(text) for text in texts], " ")) == texts
    assert arguments(name, Script(words(*texts))) == texts


@pytest.mark.parametrize(
    "text",
    ["", "'", "''", "-n", "~", "~root", "*", "a=b", "\\", "\\'", "$'x'", "!!", "x" * 200_000],
)
def test_texts_that_shells_love_arrive_byte_for_byte(shell: str, text: str) -> None:
    assert arguments(shell, quote(text)) == [text]
    assert arguments(shell, Script(words(text))) == [text]
    assert arguments(shell, quote(Secret(text))) == [text]


@pytest.mark.parametrize("text", ["\0", "a\0b"])
def test_a_nul_is_refused_because_no_word_can_carry_it(text: str) -> None:
    for value in (text, Secret(text)):
        with pytest.raises(ValueError, match="NUL"):
            quote(value)
    with pytest.raises(ValueError, match="NUL"):
        words(text)


def test_plain_words_stay_readable() -> None:
    assert words("/etc/x.conf", "a:b", "it's") == "/etc/x.conf a:b 'it'\\''s'"


# --- secrets --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        Secret(CANARY),
        quote(Secret(CANARY)),
        Script("before ") + quote(Secret(CANARY)) + " after",
        join([Script("a"), quote(Secret(CANARY))]),
        function("f", quote(Secret(CANARY))),
        whole(quote(Secret(CANARY))),
        Desired(kube_proxy=KubeProxy(kubeconfig_content=Secret(CANARY))),
        [Secret(CANARY)],
        {"key": quote(Secret(CANARY))},
        ValueError(Secret(CANARY)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_secret_is_in_no_text_of_anything_that_holds_it(value: object) -> None:
    for text in (str(value), repr(value), f"{value}", f"{value!r}", "%s" % value):  # noqa: UP031
        assert "canary" not in text
        assert "<secret>" in text


def test_a_secret_is_given_back_only_on_demand() -> None:
    assert Secret(CANARY).reveal() == CANARY
    assert CANARY.replace("'", "'\\''") in whole(quote(Secret(CANARY))).reveal()


def test_secrets_are_compared_by_what_they_hold() -> None:
    assert quote(Secret("a")) == quote(Secret("a"))
    assert quote(Secret("a")) != quote(Secret("b"))


# --- whole ----------------------------------------------------------------------------------


def test_a_script_cut_anywhere_runs_nothing_at_all(dash: Machine) -> None:
    canary = dash.folder / "canary"
    steps = [Script(f"echo {n} >>{canary}; echo 'a quoted # {n}\n}}\nmain\n'\n") for n in range(9)]
    text = whole(join(steps, "")).reveal()
    end = len(text) - len("main\n")
    cuts = {*random.Random(1).sample(range(end), 60), 0, end, end + 1, end + 2, end + 3}
    for cut in cuts:
        dash.run(Script(text[:cut]))
        assert not canary.exists(), f"cut at {cut} of {len(text)}"
    dash.run(Script(text))
    assert canary.read_text().split() == [str(n) for n in range(9)]


def test_a_whole_script_runs_once(machine: Machine) -> None:
    assert machine.run(whole("echo one\necho two\n")) == b"one\ntwo\n"


# --- http_get -------------------------------------------------------------------------------

CLIENTS = {
    "curl": ("curl",),
    "wget": ("wget", "timeout"),
    "bash": ("bash", "timeout", "cat"),
    "python3": ("python3",),
    "perl": ("perl", "timeout"),
}


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ipvs" if self.path == "/proxyMode" else b"wrong")

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def answering() -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("client", CLIENTS)
def test_any_one_http_client_of_a_node_will_do(client: str, tmp_path: Path) -> None:
    path = programs(tmp_path / "bin", CLIENTS[client])
    with answering() as port:
        asked = Script(HTTP_GET, f"http_get 127.0.0.1 {port} /proxyMode\n")
        assert output("dash", asked, path).strip() == b"ipvs"


def test_a_node_without_http_client_says_so(tmp_path: Path) -> None:
    path = programs(tmp_path / "bin", ("cat",))
    assert output("dash", Script(HTTP_GET, "http_get 127.0.0.1 1 /\n"), path) == b"no-http-client\n"


def test_scripts_are_plain_posix_for_shellcheck() -> None:
    assert complaints(HTTP_GET + "http_get localhost 1 /\n") == ""
