"""Entries of ipsets come out as ``ipset save`` prints them, or are refused with what to write."""

import ipaddress
from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodeprep.inventory.entries import MOST_TOLD, Line, form, lines, listed
from nodeprep.ipset import TYPES
from tests.namespaces import Namespace
from tests.shells import NEEDS_ROOT

MANY = 65536


def entries(kind: str, *texts: str, family: str = "inet") -> tuple[str, ...]:
    found = listed(kind, family, texts, most=MANY)
    assert not found.faults
    return found.entries


@pytest.mark.parametrize(
    ("kind", "text", "come"),
    [
        ("hash:ip", "10.0.0.1", "10.0.0.1"),
        ("hash:ip", "10.0.0.1/32", "10.0.0.1"),
        ("hash:ip", "10.0.0.9/30", "10.0.0.10 10.0.0.11 10.0.0.8 10.0.0.9"),
        ("hash:ip", "10.0.0.255-10.0.1.0", "10.0.0.255 10.0.1.0"),
        ("hash:net", "10.0.0.1/24", "10.0.0.0/24"),
        ("hash:net", "10.0.0.1", "10.0.0.1"),
        ("hash:net", "10.0.1.0-10.0.1.10", "10.0.1.0/29 10.0.1.10 10.0.1.8/31"),
        ("hash:ip,port", "10.0.0.1,80", "10.0.0.1,tcp:80"),
        ("hash:ip,port", "10.0.0.1,UDP:53-54", "10.0.0.1,udp:53 10.0.0.1,udp:54"),
        ("hash:net,port", "10.9.9.9/8,sctp:7", "10.0.0.0/8,sctp:7"),
        ("hash:net,iface", "0.0.0.0/0,eth0.100", "0.0.0.0/0,eth0.100"),
        ("hash:net,iface", "10.0.0.1/31,physdev:br-1", "10.0.0.0/31,physdev:br-1"),
        ("hash:net,net", "10.0.0.1/8,10.1.1.1", "10.0.0.0/8,10.1.1.1"),
        ("hash:ip,port,ip", "10.0.0.1,80,10.0.0.2", "10.0.0.1,tcp:80,10.0.0.2"),
        ("hash:ip,port,net", "10.0.0.1,80,10.1.1.1/16", "10.0.0.1,tcp:80,10.1.0.0/16"),
        ("hash:ip,mac", "10.0.0.1,02:00:5e:10:00:01", "10.0.0.1,02:00:5E:10:00:01"),
        ("hash:mac", "02:00:5e:10:00:01", "02:00:5E:10:00:01"),
    ],
)
def test_an_entry_is_brought_to_ipsets_own_form(kind: str, text: str, come: str) -> None:
    assert entries(kind, text) == tuple(come.split())


@pytest.mark.parametrize(
    ("text", "comes"),
    [
        ("FD00:0:0::1", "fd00::1"),
        ("1:0:0:2:0:0:0:3", "1:0:0:2::3"),
        ("1:0:2:3:4:5:6:7", "1:0:2:3:4:5:6:7"),
        ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
        ("::1.2.3.4", "::1.2.3.4"),
        ("::1", "::1"),
    ],
)
def test_an_ipv6_address_is_written_as_the_c_library_does(text: str, comes: str) -> None:
    assert entries("hash:ip", text, family="inet6") == (comes,)
    assert entries("hash:net", text, family="inet6") == (comes,)


def test_what_is_written_twice_counts_once_and_all_is_sorted() -> None:
    assert entries("hash:net", "9.0.0.1", "10.0.0.1/24", "10.0.0.2/24") == (
        "10.0.0.0/24",
        "9.0.0.1",
    )


def test_nomatch_stays_with_its_network() -> None:
    assert entries("hash:net", "10.0.0.0/8", "10.1.0.1/16 nomatch") == (
        "10.0.0.0/8",
        "10.1.0.0/16 nomatch",
    )


def test_a_network_with_nomatch_and_without_is_refused() -> None:
    found = listed("hash:net", "inet", ["10.0.0.0/8", "10.0.0.1/8 nomatch"], most=MANY)
    assert "with `nomatch` and without" in found.faults[1]


@pytest.mark.parametrize(
    ("kind", "family", "text", "told"),
    [
        ("hash:ip", "inet", "10.0.0.256", "no address of the family inet"),
        ("hash:ip", "inet", "010.0.0.1", "no address of the family inet"),
        ("hash:ip", "inet", "fd00::1", "no address of the family inet, such as 192.0.2.1"),
        ("hash:ip", "inet6", "10.0.0.1", "no address of the family inet6, such as 2001:db8::1"),
        ("hash:ip", "inet6", "fe80::1%eth0", "no address"),
        ("hash:ip", "inet6", "fd00::/126", "takes one at a time"),
        ("hash:ip", "inet", "0.0.0.1/29", "all zeros"),
        ("hash:ip", "inet", "10.0.0.0/33", "no prefix of 0 to 32 bits"),
        ("hash:ip", "inet", "10.0.0.0/", "no prefix of 0 to 32 bits"),
        ("hash:ip", "inet", "10.0.0.9-10.0.0.1", "runs backwards"),
        ("hash:ip", "inet", "10.0.0.0/8", "stands for 16777216 entries: at most 65536 are taken"),
        ("hash:ip", "inet", "10.0.0.1,tcp:80", "is not an entry of hash:ip: write ADDRESS"),
        ("hash:ip", "inet", "10.0.0.1 nomatch", "is not an entry of hash:ip"),
        ("hash:net", "inet", "0.0.0.0/0", "write 0.0.0.0/1 and 128.0.0.0/1"),
        ("hash:net", "inet6", "::/0", "write ::/1 and 8000::/1"),
        ("hash:ip,port", "inet", "10.0.0.1", "write 'ADDRESS,PROTOCOL:PORT'"),
        ("hash:ip,port", "inet", "10.0.0.1,http", "is no port"),
        ("hash:ip,port", "inet", "10.0.0.1,0", "is no port"),
        ("hash:ip,port", "inet", "10.0.0.1,tcp:65536", "is no port"),
        ("hash:ip,port", "inet", "10.0.0.1,icmp:8", "is no port"),
        ("hash:net,iface", "inet", "10.0.0.1,a/b", "is no interface"),
        ("hash:net,iface", "inet", "10.0.0.1,abcdefghijklmnop", "is no interface"),
        ("hash:mac", "", "00:00:00:00:00:00", "is no MAC address"),
        ("hash:mac", "", "2:0:5e:10:0:1", "is no MAC address"),
    ],
)
def test_what_cannot_be_an_entry_is_refused(kind: str, family: str, text: str, told: str) -> None:
    found = listed(kind, family, [text], most=MANY)
    assert told in found.faults[0]
    assert found.entries == ()


def test_of_a_list_of_something_else_not_all_is_told() -> None:
    assert len(listed("hash:ip", "inet", ["no"] * 1000, most=MANY).faults) == MOST_TOLD


def test_reading_stops_once_there_are_more_than_the_set_may_have() -> None:
    found = listed("hash:ip", "inet", (f"10.{n}.0.0/24" for n in range(200)), most=300)
    assert len(found.entries) == 512


def test_lines_have_their_places_and_comments_are_left_out() -> None:
    assert lines("# top\n\n  10.0.0.1  # why\r\n10.1.0.0/16  nomatch\n") == (
        Line(line=3, column=3, text="10.0.0.1"),
        Line(line=4, column=1, text="10.1.0.0/16 nomatch"),
    )


# --- against ipset itself -------------------------------------------------------------------

NAME = st.sampled_from(["eth0", "eth0.100", "physdev:br-x", "lo"])
PORT = st.builds(
    lambda protocol, first, more: f"{protocol}{first}" + (f"-{first + more}" if more else ""),
    st.sampled_from(["", "tcp:", "udp:", "sctp:", "udplite:"]),
    st.integers(1, 65000),
    st.integers(0, 3),
)
IP_4 = st.integers(2**24, 2**32 - 9).map(ipaddress.IPv4Address)
MAPPED = st.integers(0, 2**32 - 1).map(lambda low: 0xFFFF << 32 | low)
SPARSE = st.lists(st.sampled_from([0, 0, 0, 1, 0xFFFF, 0xAB0]), min_size=8, max_size=8).map(
    lambda words: int.from_bytes(b"".join(word.to_bytes(2, "big") for word in words), "big")
)
IP_6 = (st.integers(1, 2**128 - 1) | st.integers(1, 2**33) | MAPPED | SPARSE.filter(bool)).map(
    ipaddress.IPv6Address
)


def spelt(address: ipaddress.IPv6Address) -> st.SearchStrategy[str]:
    return st.sampled_from([str(address), address.exploded, str(address).upper()])


def ips(family: str) -> st.SearchStrategy[str]:
    if family == "inet6":
        return IP_6.flatmap(spelt)
    ranges = st.builds(lambda ip, more: f"{ip}-{ip + more}", IP_4, st.integers(0, 7))
    return IP_4.map(str) | st.builds("{}/{}".format, IP_4, st.integers(29, 32)) | ranges


def nets(family: str) -> st.SearchStrategy[str]:
    if family == "inet6":
        return st.builds("{}/{}".format, IP_6, st.integers(1, 128)) | IP_6.map(str)
    ranges = st.builds(
        lambda ip, more: f"{ip}-{ipaddress.IPv4Address(min(int(ip) + more, 2**32 - 1))}",
        IP_4,
        st.integers(0, 5000),
    )
    return IP_4.map(str) | st.builds("{}/{}".format, IP_4, st.integers(1, 32)) | ranges


HERE = ("hash:ip", "hash:net", "hash:ip,port", "hash:net,port", "hash:net,iface")
THREE = ("hash:ip,port,ip", "hash:ip,port,net")


@st.composite
def wishes(draw: st.DrawFn) -> tuple[str, str, list[str]]:
    """Draw a type, a family, and texts that ipset itself takes."""
    kind = draw(st.sampled_from([*HERE, *THREE]))
    family = draw(st.sampled_from(["inet", "inet6"]))
    parts = {"ip": ips(family), "net": nets(family), "port": PORT, "iface": NAME}
    # ipset takes a range in the first part of an entry, and in the last one of these none.
    plain = (IP_4.map(str) if family == "inet" else IP_6.map(str)) if kind in THREE else None
    chosen = [parts[part] for part in TYPES[kind]]
    if plain is not None:
        chosen[0], chosen[2] = plain, plain if kind == THREE[0] else nets(family)
    texts = st.lists(st.tuples(*chosen).map(",".join), max_size=5)
    flagged = st.sampled_from(["", " nomatch"]) if "net" in TYPES[kind] else st.just("")
    drawn = draw(texts)
    return kind, family, [text + draw(flagged) for text in drawn]


def saved(kernel: Namespace, kind: str, family: str, texts: Iterable[str]) -> tuple[str, ...]:
    """Return what ipset makes of these texts, each added by itself."""
    adds = "".join(f"ipset -exist add probe {text}\n" for text in texts)
    told = kernel.ask(
        f"ipset -exist create probe {kind} family {family}; ipset flush probe\n{adds}"
        "ipset save probe | sed -n 's/^add probe //p' | sort; ipset destroy probe"
    )
    return tuple(told.splitlines())


@NEEDS_ROOT
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(wish=wishes())
def test_any_entry_is_what_ipset_save_prints(
    kernel: Namespace, wish: tuple[str, str, list[str]]
) -> None:
    kind, family, texts = wish
    found = listed(kind, family, texts, most=MANY)
    if found.faults:  # with `nomatch` and without: ipset takes the last word
        assert all("nomatch" in told for told in found.faults.values())
        return
    assert found.entries == saved(kernel, kind, family, texts)


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_says_how_its_entries_are_written(kind: str) -> None:
    assert form(kind).count(",") == len(TYPES[kind]) - 1
