"""Options of ssh, from a command line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeprep.importing import ssh_words


def told(text: str) -> dict[str, object]:
    return {".".join(key): value for key, value in ssh_words.of_words(text).settings.items()}


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("-J b", {"ssh.jump": ("b",)}),
        ("-Jb", {"ssh.jump": ("b",)}),
        ("-qAJ b", {"ssh.jump": ("b",)}),
        ("-J ssh://ops@b:22/,c", {"ssh.jump": ("ops@b:22", "c")}),
        ("-o ProxyJump=b", {"ssh.jump": ("b",)}),
        ("-oProxyJump=b", {"ssh.jump": ("b",)}),
        ("-o 'ProxyJump b'", {"ssh.jump": ("b",)}),
        ("-o proxyjump=none", {"ssh.jump": ()}),
        ("-p 2222 -l ada -i k", {"ssh.port": 2222, "ssh.user": "ada", "ssh.identity_file": "k"}),
        ("-p 1 -p 2", {"ssh.port": 1}),
        ("-o UserKnownHostsFile=/dev/null", {}),
        ("-o 'UserKnownHostsFile=a b'", {"ssh.known_hosts": ("a", "b")}),
        ("-o StrictHostKeyChecking=accept-new", {"ssh.host_keys": "accept-new"}),
        ("-F cfg -4 -v", {"ssh.config": "cfg"}),
        ("", {}),
    ],
)
def test_words_become_settings(words: str, wanted: dict[str, object]) -> None:
    assert told(words) == wanted


@pytest.mark.parametrize(
    ("command", "hops"),
    [
        ("ssh -W %h:%p b", ("b",)),
        ("ssh b -W %h:%p", ("b",)),
        ("/usr/bin/ssh -q -W [%h]:%p ops@b", ("ops@b",)),
        ("exec ssh -W %h:%p -p 22 -l ops b", ("ops@b:22",)),
        ("ssh -o User=ops -o Port=22 -W %h:%p b", ("ops@b:22",)),
        ("ssh -J a -W %h:%p b", ("a", "b")),
        ("ssh -W %h:%p fd00::1", ("[fd00::1]",)),
        ("ssh b nc %h %p", ()),
        ("ssh -W other:22 b", ()),
        ("ssh -W %h:%p b c", ()),
        ("sshpass -p x ssh -W %h:%p b", ()),
        ("nc -x proxy %h %p", ()),
        ("ssh -W '%h:%p b", ()),
        ("", ()),
    ],
)
def test_a_proxy_command_of_ssh_becomes_hops(command: str, hops: tuple[str, ...]) -> None:
    assert ssh_words.jump_of(command)[0] == hops


def test_a_jump_hosts_own_key_is_said() -> None:
    found = ssh_words.of_words("-o ProxyCommand='ssh -i k -W %h:%p b'")
    assert ssh_words.HOP_KEY in found.remarks


def test_options_without_a_counterpart_are_named() -> None:
    assert ssh_words.of_words("-D 1080 -o Tunnel=yes").unknown == ("-D", "tunnel")


@given(st.text("-oJpliF %h:W=\"'\\ab19", max_size=40))
def test_any_words_are_read(text: str) -> None:
    ssh_words.of_words(text)
    ssh_words.jump_of(text)
