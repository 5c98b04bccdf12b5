"""What each tool printed, and what it thereby said of changes."""

from collections.abc import Callable

import pytest

from bench.comparison import contenders, nodes

RECAP = """\
PLAY RECAP *********************************************************************
node1                      : ok=9    changed=7    unreachable=0    failed=0    skipped=0
node2                      : ok=9    changed=0    unreachable=0    failed=0    skipped=0
"""
GRAND_TOTAL = "    Grand total                       50       %s       -        %s\n"


def test_the_recap_of_a_playbook_is_added_up() -> None:
    assert contenders.ansible_changes(RECAP) == 7


@pytest.mark.parametrize(("changed", "same", "count"), [("45", "5", 45), ("-", "50", 0)])
def test_of_a_deploy_the_total_counts(changed: str, same: str, count: int) -> None:
    assert contenders.pyinfra_changes(GRAND_TOTAL % (changed, same)) == count


def test_each_line_of_a_script_is_a_change() -> None:
    assert contenders.script_changes("changed: loaded ip_vs\nchanged: /etc/x\n") == 2
    assert contenders.script_changes("") == 0


def test_the_last_line_of_an_apply_counts() -> None:
    assert contenders.nodeprep_changes("ready: node[1-5]\n1 change made on 5 nodes\n") == 1


@pytest.mark.parametrize(
    "said", [contenders.ansible_changes, contenders.pyinfra_changes, contenders.nodeprep_changes]
)
def test_no_word_of_changes_is_not_taken_for_none(said: Callable[[str], int]) -> None:
    with pytest.raises(ValueError, match="nothing in it says"):
        said("Traceback (most recent call last):")


def test_logins_are_counted_without_the_one_that_reads_the_log() -> None:
    log = (
        "Accepted key ED25519 SHA256:x found at /etc/ssh/lab_authorized_keys:1\n"
        "Accepted publickey for root from 10.0.2.2 port 40000 ssh2: ED25519 SHA256:x\n"
        "Starting session: command for root from 10.0.2.2 port 40000 id 0\n"
        "Starting session: subsystem 'sftp' for root from 10.0.2.2 port 40000 id 1\n"
        "Accepted publickey for root from 10.0.2.2 port 40002 ssh2: ED25519 SHA256:x\n"
        "Starting session: command for root from 10.0.2.2 port 40002 id 0\n"
    )
    assert nodes.counted(log) == nodes.Logins(connections=1, sessions=2)
