"""Steps where kubectl runs: in their order, up to the first that fails, and in its own words."""

import pytest

from nodeprep import cluster_steps
from nodeprep.errors import FactError, NodeFailed
from nodeprep.model import Change
from nodeprep.shell import Script
from tests.shells import complaints, output

NONCE = "0123456789abcdef"


def steps(*actions: str) -> list[Change]:
    return [
        Change(topic="t", subject="s", summary=f"do {n}", action=Script(action), place="cluster")
        for n, action in enumerate(actions)
    ]


def test_all_are_made_in_one_shell_and_in_their_order(shell: str) -> None:
    changes = steps("seen=1", '[ "$seen" = 1 ] && seen=2', '[ "$seen" = 2 ]')
    cluster_steps.check(output(shell, cluster_steps.script(changes, NONCE)), changes, NONCE)


def test_the_first_that_fails_ends_it_with_its_last_words(shell: str) -> None:
    changes = steps(":", "echo one; echo 'Error: (Conflict)' >&2; return 7", "echo never >&3")
    answer = output(shell, cluster_steps.script(changes, NONCE))
    with pytest.raises(NodeFailed, match=r"could not do 1: Error: \(Conflict\)"):
        cluster_steps.check(answer, changes, NONCE)
    assert b"never" not in answer


def test_a_step_that_says_nothing_is_told_so(shell: str) -> None:
    changes = steps("false")
    with pytest.raises(NodeFailed, match="could not do 0: no word of it"):
        cluster_steps.check(output(shell, cluster_steps.script(changes, NONCE)), changes, NONCE)


def test_half_an_answer_is_no_success() -> None:
    changes = steps(":", ":")
    answer = output("dash", cluster_steps.script(changes, NONCE))
    for end in range(0, len(answer) - 1, 7):
        with pytest.raises(FactError):
            cluster_steps.check(answer[:end], changes, NONCE)


def test_shellcheck_finds_nothing() -> None:
    assert complaints(cluster_steps.script(steps("echo a", "echo b"), NONCE).reveal()) == ""
