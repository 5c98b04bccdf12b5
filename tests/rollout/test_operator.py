"""What an operator types as a gate or a target, and the question that becomes of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeprep.errors import UsageError
from nodeprep.rollout.operator import Gate, TcpTarget, parse_gate, parse_target, question
from nodeprep.shell import TCP_OPEN, Script
from tests.shells import output


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("tcp://10.254.7.7:80", "10.254.7.7", 80),
        ("tcp://[fd00::7]:65535", "fd00::7", 65535),
        ("tcp://db.example:1", "db.example", 1),
    ],
)
def test_a_target_is_a_host_and_a_port_and_prints_as_it_was_typed(
    text: str, host: str, port: int
) -> None:
    assert parse_target(text) == TcpTarget(host, port)
    assert str(parse_target(text)) == text


REFUSED = ("", "10.0.0.1:80", "tcp://10.0.0.1", "tcp://10.0.0.1:0", "tcp://10.0.0.1:65536",
           "tcp://-x:80", "tcp://a b:80", "tcp://$(id):80", "tcp://a:80/", "tcp://fd00::7:80",
           "udp://10.0.0.1:80", "tcp://a:80\n")  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_anything_else_is_no_target(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_target(text)
    assert "tcp://" in caught.value.hint


@pytest.mark.parametrize(
    "text", [*REFUSED, "http://a", "http://a:0/", "http://a:80/b c", "https://a:1/"]
)
def test_anything_else_is_no_gate(text: str) -> None:
    with pytest.raises(UsageError):
        parse_gate(text)


def test_a_gate_over_http_asks_for_a_path() -> None:
    gate = parse_gate("http://[::1]:10256/healthz?a=b")
    assert gate == Gate(
        kind="http",
        text="http://[::1]:10256/healthz?a=b",
        host="[::1]",
        port=10256,
        path="/healthz?a=b",
    )
    assert parse_gate("http://a:80").path == "/"
    assert question(gate) == "http_ok '[::1]' 10256 '/healthz?a=b'"


def test_a_gate_over_tcp_opens_a_connection() -> None:
    assert question(parse_gate("tcp://[fd00::7]:443")) == "tcp_open fd00::7 443"


@given(st.text())
def test_no_text_does_more_than_be_refused(text: str) -> None:
    for parse in (parse_gate, parse_target):
        try:
            read = parse(text)
        except UsageError:
            continue
        assert 0 < read.port < 65536


@pytest.mark.parametrize(
    ("command", "status"), [("true", 0), ("exit 3", 3), ("read x", 1), ("echo 'it''s' >&2", 0)]
)
def test_a_command_is_run_by_a_shell_of_its_own(shell: str, command: str, status: int) -> None:
    asked = question(Gate(kind="command", text=command))
    said = output(shell, Script(TCP_OPEN, f'said=$({asked})\necho "$? $said"\n'))
    assert said.decode().split(" ")[0] == str(status)
