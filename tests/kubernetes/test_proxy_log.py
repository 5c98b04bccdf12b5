"""What a kube-proxy says of its mode is understood in the words of every release."""

import json

import pytest

from nodeprep.kubernetes.proxy_log import Said, read

HEAD = "I0102 03:04:05.678901       1 server_others.go:259] "
CRI = "2026-01-02T03:04:05.678901234Z stderr F "
DOCKER = '{"log":"%s\\n","stream":"stderr","time":"2026-01-02T03:04:05Z"}'


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Using iptables Proxier.", Said(mode="iptables")),
        ("Using ipvs Proxier.", Said(mode="ipvs")),
        ("Using userspace Proxier.", Said(mode="userspace")),
        ('"Using iptables Proxier"', Said(mode="iptables")),
        ('"Using ipvs Proxier"', Said(mode="ipvs")),
        ('"Using nftables Proxier"', Said(mode="nftables")),
    ],
)
@pytest.mark.parametrize("prefix", ["", HEAD, CRI + HEAD])
def test_the_mode_is_read_with_any_prefix(said: str, expected: Said, prefix: str) -> None:
    assert read(f"{prefix}{said}\n") == expected


def test_json_is_read_too() -> None:
    line = json.dumps({"ts": 1.5, "caller": "app/server.go:1", "msg": "Using ipvs Proxier", "v": 0})
    assert read(line).mode == "ipvs"
    assert read(CRI + line).mode == "ipvs"
    assert read(DOCKER % "Using ipvs Proxier.").mode == "ipvs"


@pytest.mark.parametrize(
    "said",
    [
        'Flag proxy-mode="" unknown, assuming iptables proxy',
        'Unknown proxy mode "", assuming iptables proxy',
        '"Unknown proxy mode, assuming iptables proxy" proxyMode=""',
        json.dumps({"msg": 'Unknown proxy mode "", assuming iptables proxy'}),
    ],
)
def test_no_mode_at_all_is_told(said: str) -> None:
    lines = [f"W0102 1 server_others.go:1] {said}", f"{HEAD}Using iptables Proxier"]
    assert read("\n".join(lines)) == Said(mode="iptables", not_set=True)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (
            [
                "can't determine whether to use ipvs proxy, error: IPVS proxier will not be used",
                "Can't use ipvs proxier, trying iptables proxier",
            ],
            "IPVS proxier will not be used",
        ),
        (
            [
                "Can't use the IPVS proxier: Ipvs not supported",
                "Can't use ipvs proxier, trying iptables proxier",
            ],
            "Ipvs not supported",
        ),
        (['"Can\'t use the IPVS proxier" err="no ip_vs"'], "no ip_vs"),
    ],
)
def test_a_fallback_is_told_with_its_reason(lines: list[str], why: str) -> None:
    text = "\n".join([*(HEAD + line for line in lines), HEAD + "Using iptables Proxier."])
    assert read(text) == Said(mode="iptables", wanted="ipvs", fell_back=True, why=why)


def test_a_release_that_exits_instead_has_a_reason_and_no_mode() -> None:
    said = read('E0102 1 run.go:74] "command failed" err="can\'t use the IPVS proxier: no ip_vs"')
    assert (said.mode, said.wanted, said.why) == ("", "ipvs", "no ip_vs")


def test_of_several_starts_the_last_one_counts() -> None:
    fell = "Can't use ipvs proxier, trying iptables proxier"
    first = f"{HEAD}{fell}\n{HEAD}Using iptables Proxier.\n"
    assert read(first + f"{HEAD}Using ipvs Proxier.\n") == Said(mode="ipvs")
    assert read(f"{HEAD}Using ipvs Proxier.\n" + first).fell_back


def test_a_log_of_other_things_says_nothing() -> None:
    assert read("") == Said()
    assert read("I0102 1 config.go:1] Starting service config controller\n") == Said()
