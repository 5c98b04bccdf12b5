"""Our scripts over the real tools, in a network namespace of its own that a test fills first."""

import subprocess
from pathlib import Path

from nodeprep.shell import HTTP_GET
from tests.rollout.test_leftovers import NEEDS_NAMESPACES
from tests.shells import PATH, SHELLS

__all__ = ["NEEDS_NAMESPACES", "SAMPLES", "inside", "sample"]

SAMPLES = Path(__file__).parent / "samples"


def sample(name: str) -> str:
    return (SAMPLES / name).read_text()


def inside(setup: str, script: str, *, shell: str = "dash", given: str = "") -> str:
    """Return what ``script`` prints where ``setup`` ran before; ``$given`` names a file of text."""
    done = subprocess.run(
        ["unshare", "--net", *SHELLS[shell], "-s"],
        input=f'given=$(mktemp)\ncat >"$given" <<"END"\n{given}\nEND\n{{\n{setup}\n}} </dev/null\n'
        f'rm -f "$given"\n{HTTP_GET}\n{script}\n',
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={"PATH": PATH},
    )
    assert done.stderr == "", done.stderr
    return done.stdout
