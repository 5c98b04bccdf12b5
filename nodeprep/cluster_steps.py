"""Steps that are made where the cluster's ``kubectl`` runs: one script for several of them.

They change objects of the cluster, and little on the machine itself: so none of a node's locks is
held, which the same machine may need as a node of the roll. What is kept there is kept by the steps
themselves, below nodeprep's own folder.
"""

from collections.abc import Sequence

from nodeprep import frames
from nodeprep.errors import NodeFailed
from nodeprep.model import Change
from nodeprep.shell import Script, function, join, whole

_STEP = """\
step() {
  begin "$1"
  { "$1"; } </dev/null 2>&1
  status=$?
  end "$1" "$status"
  return "$status"
}
trap '' HUP PIPE
umask 022
"""


def script(changes: Sequence[Change], nonce: str) -> Script:
    """Return the script that makes ``changes`` in their order, up to the first that fails."""
    steps = [function(f"step_{n}", change.action) for n, change in enumerate(changes)]
    calls = [Script(f"step step_{n}") for n in range(len(changes))]
    return whole(
        join(
            [
                Script(frames.open_frames(nonce), _STEP),
                *steps,
                join(calls, " &&\n  ") + "\n",
                Script("total\n"),
            ],
            "",
        )
    )


def check(output: bytes, changes: Sequence[Change], nonce: str) -> None:
    """Return where all ``changes`` were made.

    Raises NodeFailed with the words of the one that was not, FactError where the answer is torn.
    """
    answers = frames.parse(output, nonce)
    for n, change in enumerate(changes):
        answer = answers.get(f"step_{n}")
        if answer is None or answer.exit_status:
            said = answer.text.strip().splitlines() if answer else []
            raise NodeFailed(f"could not {change.summary}: {said[-1] if said else 'no word of it'}")
