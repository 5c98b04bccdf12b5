"""What a new kube-proxy's metrics say of its first syncs, and what is waited for."""

import pytest

from nodeprep.rollout.first_sync import SHELL
from nodeprep.shell import Script, words
from tests.shells import complaints, output

AT, QUEUED = "last_timestamp_seconds", "last_queued_timestamp_seconds"
COUNT, SPENT = "duration_seconds_count", "duration_seconds_sum"


def metrics(**values: float | str) -> str:
    """Return what kube-proxy answers; ``values`` are by the short names above."""
    names = {"at": AT, "queued": QUEUED, "count": COUNT, "spent": SPENT}
    return "".join(
        f"kubeproxy_sync_proxy_rules_{names[name]} {value}\n" for name, value in values.items()
    )


def look(shell: str, text: str, earlier: str = "", waited: int = 0) -> str:
    """Return what is made of an answer of kube-proxy's, and of an earlier look."""
    asked = f"http_get() {{ printf %s {words(text)}; }}\nsynced '{earlier}' {waited}\n"
    return output(shell, Script(SHELL, asked)).decode().strip()


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [("1.7e+09", "1.7e+09", "whole"), ("1.7e+09", "0", ""), ("0", "0", "")],
)
def test_every_family_must_have_synced(shell: str, first: str, second: str, said: str) -> None:
    name = f"kubeproxy_sync_proxy_rules_{AT}"
    told = f'{name}{{ip_family="IPv4"}} {first}\n{name}{{ip_family="IPv6"}} {second}\n'
    assert look(shell, told) == said


def test_who_does_not_tell_of_a_sync_has_none(shell: str) -> None:
    assert look(shell, "") == ""
    assert look(shell, "other 1\n") == ""
    assert look(shell, metrics(at=0, queued=0, count=0, spent=0)) == ""


@pytest.mark.parametrize(
    "told",
    [
        metrics(at="1.7e+09"),
        metrics(at="1.7e+09", queued=0, count=1, spent=2.5),
        # The first sync lasted from 1000 to 1004: what was queued before that is in it.
        metrics(at=1004, queued=999.5, count=1, spent=4),
    ],
)
def test_a_sync_is_whole_where_nothing_was_queued_since_it_began(shell: str, told: str) -> None:
    assert look(shell, told) == "whole"


FIRST = metrics(at=1004, queued=1001, count=1, spent=4)
SEEN = "1 1004.000000 1001.000000 4.000000"


def test_what_was_queued_while_it_went_on_may_be_in_the_next_one_only(shell: str) -> None:
    assert look(shell, FIRST) == SEEN
    # That one goes on now: nothing is pending any more, and nothing is written yet.
    assert look(shell, FIRST, SEEN, 5) == SEEN
    assert look(shell, metrics(at=1010, queued=1001, count=2, spent=10), SEEN, 6) == "whole"


def test_what_was_queued_after_the_first_sync_may_be_in_the_third_only(shell: str) -> None:
    seen = look(shell, metrics(at=1004, queued=1006, count=1, spent=4))
    # The second sync began at 1005, before it was queued, or at 1007.
    early = metrics(at=1009, queued=1006, count=2, spent=8)
    assert look(shell, early, seen) == seen
    assert look(shell, metrics(at=1011, queued=1006, count=2, spent=8), seen) == "whole"
    # A busy cluster goes on to queue: what counts is what was queued at the first look.
    assert look(shell, metrics(at=1013, queued=1012, count=3, spent=12), seen) == "whole"


def test_a_second_sync_that_does_not_come_was_none_to_wait_for(shell: str) -> None:
    # Nobody saw the first one end, so when the last one began is not known.
    told = metrics(at=1010, queued=1001, count=2, spent=10)
    seen = look(shell, told)
    assert look(shell, told, seen, 24) == seen
    assert look(shell, told, seen, 26) == "whole"
    silent = metrics(at=1010, queued=1001)
    assert look(shell, silent, look(shell, silent), 11) == "whole"
    queued = metrics(at=1010, queued=1012, count=2, spent=10)
    assert look(shell, queued, look(shell, queued), 26) != "whole"


def test_another_process_is_looked_at_anew(shell: str) -> None:
    assert look(shell, FIRST, "7 1500.0 1501.0 30.0", 90) == SEEN


WAITING = """\
since_boot=100 gate_limit=60
tell_time() { since_boot=$((since_boot + 1)); }
sleep() { :; }
proxy_stays_down() { return 1; }
http_get() { :; }
"""


def test_a_sync_is_waited_for_until_it_is_whole(shell: str) -> None:
    # What is asked runs in a shell of its own, and has only the time to know how often it was.
    looked = (
        'synced() { echo "look $1 $2" >&2; case $since_boot in 101) ;; 104) echo whole ;; '
        f"*) echo {SEEN} ;; esac; }}\n"
    )
    said = output(shell, Script(SHELL, WAITING, looked, "wait_for_sync 2>&1; echo $?\n"))
    assert said.decode().splitlines() == [
        "look  0", "look  1", f"look {SEEN} 1", f"look {SEEN} 2", "0",
    ]  # fmt: skip


def test_what_never_comes_is_waited_for_as_long_as_was_said(shell: str) -> None:
    said = output(shell, Script(SHELL, WAITING, "wait_for_sync; echo $? $since_boot\n")).decode()
    assert said == "no sync within 60 s\n1 161\n"


def test_the_shell_is_clean_for_shellcheck() -> None:
    assert complaints(f"{WAITING}metrics_host=h\nmetrics_port=1\n{SHELL}") == ""
