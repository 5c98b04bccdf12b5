"""Ipsets in the kernel: how one is created, what is read of one, and where it differs."""

import pytest

from nodeprep.ipset import (
    NAME_BYTES,
    TYPES,
    added,
    differences,
    is_other_kind,
    parameters,
    parse_header,
)
from nodeprep.model import IpSet
from tests.namespaces import Namespace
from tests.shells import NEEDS_ROOT

HEADER = """\
Name: myset
Type: hash:ip
Revision: 6
Header: family inet hashsize 1024 maxelem 65536 timeout 300 bucketsize 12 initval 0x3ded5986
Size in memory: 344
References: 2
Number of entries: 2
"""


def header(**changed: str) -> str:
    text = HEADER
    for old, new in changed.items():
        text = text.replace(old, new)
    return text


def test_a_header_tells_type_parameters_and_references() -> None:
    listed = parse_header(HEADER)
    assert (listed.name, listed.type, listed.references) == ("myset", "hash:ip", 2)
    assert listed.parameters["timeout"] == "300"
    assert listed.parameters["maxelem"] == "65536"


def test_a_flag_of_a_header_has_no_value() -> None:
    listed = parse_header(header(bucketsize="counters comment bucketsize"))
    assert listed.parameters["counters"] == ""
    assert listed.parameters["bucketsize"] == "12"


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (IpSet(name="myset", timeout=300), ()),
        (IpSet(name="myset", timeout=300, hashsize=1000), ()),
        (IpSet(name="myset"), ("timeout 300",)),
        (IpSet(name="myset", timeout=0), ("timeout 300",)),
        (IpSet(name="myset", timeout=300, maxelem=9), ("maxelem 65536",)),
        (IpSet(name="myset", timeout=300, hashsize=2048), ("hashsize 1024",)),
    ],
)
def test_a_parameter_that_is_not_as_wanted_is_named(wanted: IpSet, told: tuple[str, ...]) -> None:
    assert differences(wanted, parse_header(HEADER)) == told


def test_a_flag_that_nobody_wants_is_named() -> None:
    listed = parse_header(header(bucketsize="counters netmask 24 bucketsize"))
    assert differences(IpSet(name="myset", timeout=300), listed) == ("counters", "netmask 24")


@pytest.mark.parametrize(
    ("wanted", "other"),
    [
        (IpSet(name="myset"), False),
        (IpSet(name="myset", type="hash:net"), True),
        (IpSet(name="myset", family="inet6"), True),
        (IpSet(name="myset", type="hash:mac", family=""), True),
    ],
)
def test_only_sets_of_one_type_and_family_can_change_places(wanted: IpSet, *, other: bool) -> None:
    assert is_other_kind(wanted, parse_header(HEADER)) is other


def test_what_stands_in_the_inventory_never_expires() -> None:
    assert added(IpSet(name="a"), "10.0.0.1") == "10.0.0.1"
    assert added(IpSet(name="a", timeout=9), "10.0.0.1") == "10.0.0.1 timeout 0"


@NEEDS_ROOT
@pytest.mark.parametrize(
    "wanted",
    [
        IpSet(name="a"),
        IpSet(name="b", timeout=0, maxelem=7, hashsize=100),
        IpSet(name="c", type="hash:net", family="inet6", timeout=2_147_483),
        IpSet(name="d", type="hash:net,iface", hashsize=64),
        IpSet(name="e" * NAME_BYTES, type="hash:ip,port"),
    ],
    ids=lambda wanted: wanted.name[:1],
)
def test_the_kernel_makes_a_set_as_it_is_described(kernel: Namespace, wanted: IpSet) -> None:
    kernel.ask(f"ipset create {wanted.name} {parameters(wanted)}")
    listed = parse_header(kernel.ask(f"ipset list -t {wanted.name}"))
    assert not is_other_kind(wanted, listed)
    assert differences(wanted, listed) == ()


@NEEDS_ROOT
def test_each_type_is_known_to_ipset(kernel: Namespace) -> None:
    known = kernel.ask("ipset help")
    assert all(f" {name}\t" in known for name in TYPES)
