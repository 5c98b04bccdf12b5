"""What each release of kube-proxy knows."""

import pytest

from nodeprep.model import Mode
from nodeprep.releases import (
    NEWEST,
    Version,
    feature_gates,
    knows_flag,
    knows_mode,
    knows_scheduler,
    parse_version,
)

NOT_A_VERSION = ("", "kube-proxy", "v1", "1", "x.y")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Kubernetes v1.25.3", Version(1, 25)),
        ("Kubernetes v1.32.0 ", Version(1, 32)),
        ("v1.26.5+rke2r1", Version(1, 26)),
        ("v1.30.1+k0s.0", Version(1, 30)),
        ("1.34", Version(1, 34)),
        ("v1.9.3", Version(1, 9)),
        ("v1.36.0-alpha.1", Version(1, 36)),
    ],
)
def test_a_version_is_read_in_every_form(text: str, version: Version) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize("text", NOT_A_VERSION)
def test_what_is_no_version_is_none(text: str) -> None:
    assert parse_version(text) is None


def test_versions_compare_as_numbers() -> None:
    assert Version(1, 9) < Version(1, 10) < NEWEST


@pytest.mark.parametrize(
    ("flag", "minor", "known"),
    [
        ("logtostderr", 14, True),
        ("logtostderr", 25, True),
        ("logtostderr", 26, False),
        ("logtostderr", 99, False),
        ("ipvs-strict-arp", 14, False),
        ("ipvs-strict-arp", 15, True),
        ("proxy-mode", 14, True),
        ("proxy-mode", 37, True),
    ],
)
def test_a_flag_is_known_from_its_first_release_to_its_last(
    flag: str, minor: int, *, known: bool
) -> None:
    assert knows_flag(flag, Version(1, minor)) is known


@pytest.mark.parametrize(
    ("mode", "minor", "known"),
    [
        ("iptables", 14, True),
        ("iptables", 99, True),
        ("ipvs", 7, False),
        ("ipvs", 8, True),
        ("ipvs", 35, True),
        ("ipvs", 42, True),
        ("ipvs", 43, False),
        ("nftables", 28, False),
        ("nftables", 29, True),
        ("nftables", 99, True),
    ],
)
def test_a_mode_is_known_from_its_first_release_to_its_last(
    mode: Mode, minor: int, *, known: bool
) -> None:
    assert knows_mode(mode, Version(1, minor)) is known


@pytest.mark.parametrize(("minor", "gated"), [(28, False), (29, True), (30, True), (31, False)])
def test_nftables_needs_its_gate_while_it_is_alpha(minor: int, *, gated: bool) -> None:
    expected = {"NFTablesProxyMode": True} if gated else {}
    assert feature_gates("nftables", Version(1, minor)) == expected


@pytest.mark.parametrize("mode", ["iptables", "ipvs"])
def test_no_other_mode_has_a_gate(mode: Mode) -> None:
    assert all(feature_gates(mode, Version(1, minor)) == {} for minor in range(8, 43))


@pytest.mark.parametrize("scheduler", ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "dh", "nq"])
def test_every_release_knows_the_schedulers_of_the_first_day(scheduler: str) -> None:
    assert knows_scheduler(scheduler, Version(1, 14))
    assert knows_scheduler(scheduler, Version(1, 34))


@pytest.mark.parametrize("scheduler", ["mh", "fo", "ovf", "twos"])
def test_newer_schedulers_are_the_kernels_business_from_1_27_on(scheduler: str) -> None:
    assert not knows_scheduler(scheduler, Version(1, 26))
    assert knows_scheduler(scheduler, Version(1, 27))
