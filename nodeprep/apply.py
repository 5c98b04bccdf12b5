"""One script makes all changes of a node: locked, guarded, logged, and read back at its end.

It goes on when the controller is gone: its log is a file on the node, a hang-up or a closed pipe
does not stop it. Before its first write it compares every file it would replace with what the
plan saw. It stops at the first step that fails, and ends with a fresh probe: success is what that
says, never an exit status.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from nodeprep import files, frames, probe
from nodeprep.errors import LockHeld, NodeFailed, StalePlan
from nodeprep.model import Change, Node, StepResult
from nodeprep.shell import Script, function, join, quote, whole, words
from nodeprep.story import Topic

HELD = 75
"""Exit status of the lock frame where another run holds it: sysexits.h's "try again later"."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Who changes the node: an id unique in time and place, and a person at a machine."""

    id: str
    operator: str


def script(
    node: Node, changes: Sequence[Change], topics: Sequence[Topic], run: Run, nonce: str
) -> Script:
    """Return the script that makes ``changes`` on ``node`` and probes it afterwards."""
    steps = [function(f"step_{n}", change.action) for n, change in enumerate(changes)]
    parts = [
        probe.opening(nonce) + files.PUT + _HELPERS,
        Script("run=") + quote(run.id) + "\noperator=" + quote(run.operator) + "\n",
        *steps,
        Script(_begin(changes)),
        _in_order(changes),
        Script(_END),
        probe.body(node, topics),
        probe.TOTAL,
    ]
    return whole(join(parts, ""))


# A redirection that fails ends the shell at `exec` and at `:`, which are special: so the lock's
# file is tried with `true` before.
_HELPERS = f"""\
work={files.WORK}
state={files.STATE}
own_folder() {{
  [ -d "$1" ] || mkdir -m 700 "$1" 2>/dev/null
  [ -d "$1" ] && [ ! -L "$1" ] && [ -O "$1" ] && return
  echo "$1 is not a folder of root's own, or cannot be made"
  return 1
}}
take_lock() {{
  own_folder "$work" && own_folder "$state" || return 1
  command -v flock >/dev/null || {{ echo "there is no flock"; return 1; }}
  true >>"$work/lock" || {{ echo "$work/lock cannot be written"; return 1; }}
  exec 9>>"$work/lock"
  flock -n 9 || {{ cat "$work/holder"; return {HELD}; }}
  printf 'run %s by %s, pid %s\\n' "$run" "$operator" "$$" >"$work/holder"
  [ ! -e "$state/log" ] || mv -f "$state/log" "$state/log.1"
  started="run $run by $operator, started $(date '+%F %T %z')"
  if printf '%s\\n' "$started" >"$state/log"; then
    printf '%s\\n' "$started" >"$state/last" && return
  fi
  echo "$state cannot be written"
  return 1
}}
guard() {{
  now=absent
  if [ -e "$1" ] || [ -L "$1" ]; then
    now=$(sha256sum -- "$1")
    now=${{now%% *}}
  fi
  [ "$now" = "$2" ] || {{ printf '%s\\n' "$1"; return 1; }}
}}
step() {{
  begin "$1"
  printf '%s begins: %s\\n' "$1" "$2" >>"$state/last"
  {{ "$1"; }} </dev/null >>"$state/log" 2>&1 9>&-
  status=$?
  printf '%s ends %d\\n' "$1" "$status" >>"$state/last"
  end "$1" "$status"
  return "$status"
}}
trap '' HUP PIPE
umask 022
"""


def _begin(changes: Sequence[Change]) -> str:
    guards = [change.guard for change in changes if change.guard]
    checks = "".join(f"guard {words(g.path, g.seen)} || stale=1\n" for g in guards)
    folders = sorted({guard.path.rpartition("/")[0] for guard in guards})
    sweep = "".join(f"rm -f -- {words(folder)}/{files.TEMPORARY}\n" for folder in folders)
    return f"""\
begin lock
{{ take_lock; }} </dev/null 2>/dev/null
locked=$?
end lock "$locked"
[ "$locked" -eq 0 ] || {{ total; return; }}
stale=0
begin guard
{checks}end guard "$stale"
[ "$stale" -eq 0 ] || {{ echo finished >>"$state/last"; total; return; }}
{sweep}"""


def _in_order(changes: Sequence[Change]) -> Script:
    calls = [Script(f"step step_{n} ") + quote(c.summary) for n, c in enumerate(changes)]
    return Script("if ") + join(calls, " &&\n  ") + "; then\n"


# The lock ends with the changes: the reading that follows would find it held, by its own shell.
_END = """\
  echo finished >>"$state/last"
fi
begin log
tail -c 65536 "$state/log"
end log 0
exec 9>&-
# shellcheck disable=SC2034
remembers=yes
"""


def parse(
    output: bytes, changes: Sequence[Change], nonce: str
) -> tuple[tuple[StepResult, ...], str]:
    """Return how each change ended, and the log's last 64 KiB.

    Raises LockHeld or StalePlan where nothing was written, NodeFailed where the node has no place
    for the lock or the log, FactError where the answer is torn.
    """
    answers = frames.parse(output, nonce)
    lock, guard = answers.get("lock"), answers.get("guard")
    if lock is not None and lock.exit_status == HELD:
        raise LockHeld(
            f"another run holds this node: {lock.text.strip() or 'it does not say who'}",
            hint="wait for it to end; it is freed at once when that run ends or dies",
        )
    if lock is None or guard is None:
        raise NodeFailed(f"no lock: {lock.text.strip() if lock else 'the script did not start'}")
    if guard.exit_status != 0:
        raise StalePlan(
            f"changed since the plan: {', '.join(guard.text.split())}; nothing was written",
            hint="nodeprep plan",
        )
    return _steps(answers, changes), answers["log"].text


def _steps(answers: frames.Answers, changes: Sequence[Change]) -> tuple[StepResult, ...]:
    statuses = (answers.get(f"step_{n}") for n in range(len(changes)))
    return tuple(
        StepResult(change=change, exit_status=frame.exit_status if frame else None)
        for change, frame in zip(changes, statuses, strict=True)
    )


def how_far(output: bytes, changes: Sequence[Change], nonce: str) -> tuple[StepResult, ...]:
    """Return what is known of the steps when the session was lost in the middle."""
    return _steps(frames.parse_partial(output, nonce), changes)
