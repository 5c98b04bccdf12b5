"""Ansible's words for many hosts."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeprep.importing.ansible.patterns import expanded


@pytest.mark.parametrize(
    ("word", "hosts", "port"),
    [
        ("web", "web", None),
        ("web:2222", "web", 2222),
        ("10.0.0.1:22", "10.0.0.1", 22),
        ("fd00::1", "fd00::1", None),
        ("[fd00::1]:2222", "fd00::1", 2222),
        ("[web1]:2222", "web1", 2222),
        ("web[1:3]", "web1 web2 web3", None),
        ("web[08:11]", "web08 web09 web10 web11", None),
        ("web[1:10:4]", "web1 web5 web9", None),
        ("web[:2]", "web0 web1 web2", None),
        ("db-[a:c]", "db-a db-b db-c", None),
        ("db-[a:e:2].x:22", "db-a.x db-c.x db-e.x", 22),
        ("r[1:2]n[1:2]", "r1n1 r1n2 r2n1 r2n2", None),
        ("10.0.[0:1].[1:2]", "10.0.0.1 10.0.0.2 10.0.1.1 10.0.1.2", None),
    ],
)
def test_a_word_stands_for_hosts(word: str, hosts: str, port: int | None) -> None:
    assert expanded(word) == (hosts.split(), port)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("web[1:2", "not closed"),
        ("web1]", "not closed"),
        ("web[1]", "is no range"),
        ("web[1:2:3:4]", "is no range"),
        ("web[1:]", "has no end"),
        ("web[1:9:0]", "no step"),
        ("web[3:1]", "runs backwards"),
        ("web[c:a]", "runs backwards"),
        ("web[01:100]", "mixes widths"),
        ("web[a:9]", "is no range"),
        ("web[aa:cc]", "is no range"),
        ("web:", "ends in a colon"),
        ("web[1:999999999]", "more than 100000 hosts"),
        ("r[1:1000]n[1:1000]", "more than 100000 hosts"),
    ],
)
def test_a_word_that_cannot_be_read_is_refused(word: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        expanded(word)


@given(st.text("web-:[]019a.\u00e4 ", max_size=20))
def test_any_word_stands_for_hosts_or_is_refused(word: str) -> None:
    try:
        hosts, port = expanded(word)
    except ValueError:
        return
    assert hosts
    assert port is None or port >= 0
