"""Ipsets and bypass rules on a node that serves: swapped under load, and still first after a boot.

kube-proxy is Debian's 1.20 in iptables mode, with a real control plane. The tests of this file
follow each other on one node.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.operator_of import Operator
from tests.e2e.serving import foreign, wait_until

pytestmark = pytest.mark.lab
MINUTES = 7

NETWORK, KUBE_PROXY, CLUSTER = "127.79.9", False, True

BYPASS = """\
    - {set: myset}
    - {set: nets6, comment: six, position: last}
    - {set: many, table: raw}
"""
# The last three types are those that few machines of developers have.
SETS = """\
    myset: {type: "hash:ip", entries: [192.168.1.1, 192.168.2.226]}
    nets6: {type: "hash:net", family: inet6, entries: ["fd00::1/64", "fd01::/16 nomatch"]}
    macs: {type: "hash:mac", entries: ["02:00:5e:10:00:01"]}
    pairs: {type: "hash:net,net", entries: ["10.0.0.1/8,10.1.1.1/16"]}
    hosts: {type: "hash:ip,mac", entries: ["10.0.0.1,02:00:5e:10:00:01"]}
"""
OURS = ("myset", "nets6", "macs", "pairs", "hosts", "many")
CHAIN = "iptables -t nat -S PREROUTING | grep '^-A'"
QUIET = "! systemctl is-active -q nodeprep-bypass-order"
MINE = "-A PREROUTING -m set --match-set myset src -m comment --comment myset -j RETURN"


@pytest.fixture(scope="module")
def wished(serving: Operator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lab's inventory with sets and rules; the entries of one are in a file beside it."""
    folder = tmp_path_factory.mktemp("wished")
    text = serving.lab.inventory.read_text()
    sets = f"{SETS}    many: {{entries_from: ./many.txt}}\n"
    path = folder / "inventory.yaml"
    path.write_text(
        text.replace("defaults:\n", f"defaults:\n  ipsets:\n{sets}  bypass_rules:\n{BYPASS}", 1)
    )
    many(path, 64)
    return path


def many(inventory: Path, second: int) -> None:
    """Write 16,384 entries: a whole /18 less one address, and the one that sends."""
    every = [f"100.{second}.{n >> 8}.{n & 255}" for n in range(16383)]
    (inventory.parent / "many.txt").write_text("\n".join([*every, "127.0.0.1", ""]))


MISSED = "PREROUTING -s 127.0.0.1 -m comment --comment missed"


@contextmanager
def rain(node: Operator) -> Iterator[None]:
    """Let packets from 127.0.0.1 rain; a rule right behind ours counts those that it missed."""
    node.ask(
        f"iptables -t raw -A {MISSED}; "
        "iptables -t raw -Z PREROUTING; systemd-run --quiet --unit=rain bash -c "
        "'while :; do echo x >/dev/udp/127.0.0.1/9; done 2>/dev/null'"
    )
    yield
    node.ask(f"systemctl stop rain; iptables -t raw -D {MISSED}")


def counts(node: Operator) -> tuple[int, int]:
    """Return how many packets our rule took, and how many came past it."""
    said = node.ask("iptables -t raw -nvxL PREROUTING | awk '/many|missed/ { print $1 }'")
    took, missed = map(int, said.split())
    return took, missed


def test_apply_makes_sets_and_rules_and_leaves_everything_foreign_as_it_was(
    serving: Operator, wished: Path
) -> None:
    before = foreign(serving).splitlines()
    serving.nodeprep("apply", inventory=wished).check(0)
    assert MINE in foreign(serving)
    assert [line for line in foreign(serving).splitlines() if line != MINE] == before
    assert serving.ask("ipset list -n | grep -v KUBE | sort").split() == sorted([*OURS, "MINE"])
    serving.nodeprep("verify", inventory=wished).check(0)
    assert "0 changes made" in serving.nodeprep("apply", inventory=wished).check(0).out


def test_the_rule_is_ahead_of_kube_proxys_jump(serving: Operator) -> None:
    rules = serving.ask(CHAIN).splitlines()
    jump = next(n for n, rule in enumerate(rules) if rule.endswith("-j KUBE-SERVICES"))
    assert rules.index(MINE) < jump


def test_16384_entries_are_swapped_under_load_in_one_session_and_none_goes_the_wrong_way(
    serving: Operator, wished: Path
) -> None:
    with rain(serving):
        for second in (65, 64):
            many(wished, second)
            before = serving.sshd_counts()
            said = serving.nodeprep("apply", inventory=wished).check(0).out
            after = serving.sshd_counts()
            assert "load the ipset many, 16384 entries" in said
            # One session looks, another one changes all; the count of our own is one of them.
            assert (after[0] - before[0] - 1, after[1] - before[1] - 1) == (1, 2)
            assert serving.ask(f"ipset save many | grep -c ' 100.{second}.'") == "16383\n"
        took, missed = counts(serving)
        assert missed == 0
        assert took > 1000
        # So it is done without a swap, and seen to go wrong.
        serving.ask("ipset flush many; ipset -exist restore </etc/nodeprep/ipsets.d/many")
        assert counts(serving)[1] > 0


def test_drift_is_found_and_taken_back(serving: Operator, wished: Path) -> None:
    serving.ask(
        "ipset add many 9.9.9.9 2>/dev/null || ipset del many 100.64.0.1; ipset add myset 9.9.9.9; "
        f"iptables -t nat -D PREROUTING {MINE.partition(' ')[2].partition(' ')[2]}"
    )
    found = serving.findings(wished)
    assert "1 too many, 0 missing: +9.9.9.9" in found["myset"]["actual"]
    assert found["nat PREROUTING myset"]["actual"] == "not there"
    serving.nodeprep("apply", inventory=wished).check(0)
    serving.nodeprep("verify", inventory=wished).check(0)


def test_after_a_boot_all_is_there_early_and_ahead_of_kube_proxy_again(
    serving: Operator, wished: Path
) -> None:
    serving.reboot()
    wait_until(serving, f"{CHAIN} | grep -q KUBE-SERVICES", seconds=300)
    wait_until(serving, QUIET, seconds=120)
    rules = serving.ask(CHAIN).splitlines()
    jump = next(n for n, rule in enumerate(rules) if rule.endswith("-j KUBE-SERVICES"))
    assert rules.index(MINE) < jump
    # kube-proxy had put its jump in front: without a second look the rule would be behind it.
    moved = serving.ask("journalctl -b -o cat -u nodeprep-bypass-order")
    assert "changed the rules of nat PREROUTING (IPv4)" in moved
    topics = ("--topic", "ipsets", "--topic", "bypass_rules")
    serving.nodeprep("verify", *topics, inventory=wished).check(0)
    stamps = serving.ask(
        "systemctl show -p ActiveEnterTimestampMonotonic --value nodeprep-ipsets "
        "nodeprep-bypass-rules network-pre.target kube-proxy"
    ).split()
    assert stamps == sorted(stamps, key=int)
    assert "0" not in stamps


def test_a_restart_of_kube_proxy_that_lost_its_jump_is_looked_after(serving: Operator) -> None:
    jump = '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
    serving.ask(f"systemctl stop kube-proxy; iptables -t nat -D PREROUTING {jump}")
    serving.ask("systemctl start kube-proxy")
    wait_until(serving, f"{CHAIN} | grep -q KUBE-SERVICES", seconds=120)
    first = "sed -n 's/KUBE-SERVICES$/&/p; /myset/p' | head -n 1"
    wait_until(serving, f"{CHAIN} | {first} | grep -q myset", seconds=60)


def test_rules_are_listed_and_one_is_removed_by_its_comment(
    serving: Operator, wished: Path
) -> None:
    wait_until(serving, QUIET, seconds=120)  # it would put the rule back
    serving.ask(
        "ipset create MINE hash:ip && ipset add MINE 192.0.2.7 && "
        "iptables -A INPUT -m set --match-set MINE src -m comment --comment mine -j DROP"
    )
    said = serving.nodeprep("rules", "--table", "nat", "--match", "myset", inventory=wished)
    assert MINE.removeprefix("-A PREROUTING ") in said.check(0).out
    theirs = serving.nodeprep("rules", "--match", "--comment mine", "-o", "json", inventory=wished)
    assert [r["target"] for r in theirs.check(0).json()["nodes"][0]["rules"]] == ["DROP"]
    words = ("rules", "remove", "--comment", "myset", "--yes")
    serving.nodeprep(*words, inventory=wished).check(0)
    assert "myset" not in serving.ask(CHAIN)


def test_what_the_inventory_no_longer_names_goes_and_nothing_else(
    serving: Operator, wished: Path
) -> None:
    serving.nodeprep("apply", inventory=wished).check(0)
    before = foreign(serving).splitlines()
    text = serving.lab.inventory.read_text()
    wished.write_text(
        text.replace("defaults:\n", "defaults:\n  ipsets: {}\n  bypass_rules: []\n", 1)
    )
    serving.nodeprep("apply", inventory=wished).check(0)
    serving.nodeprep("verify", inventory=wished).check(0)
    assert foreign(serving).splitlines() == [line for line in before if line != MINE]
    assert serving.ask("ipset list -n | grep -v KUBE") == "MINE\n"
    left = "find /etc/nodeprep -type f; find /etc/systemd/system -name 'nodeprep*'"
    assert serving.ask(left) == ""
