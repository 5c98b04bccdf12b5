"""The machine that nodeprep runs on, through the same scripts."""

import os
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from nodeprep.errors import DeadlinePassed, FactError, LoginRefused, Unreachable
from nodeprep.frames import CAP
from nodeprep.model import Node
from nodeprep.shell import Script, Secret
from nodeprep.transport.session import command_line, explained

GATE_LIMIT = 60
"""Seconds that an operator's own command may take here."""


def run_here(command: str, more: Mapping[str, str]) -> tuple[int, str]:
    """Run an operator's own command as they would, with ``more`` in its environment.

    Returns its exit status, 124 where it took too long, and the end of what it said.
    """
    environment = {**os.environ, **more}
    try:
        done = subprocess.run(
            ["sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            timeout=GATE_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 124, f"no end within {GATE_LIMIT} s"
    return done.returncode, done.stdout.decode("utf-8", "backslashreplace")[-500:].strip()


def ask_here(script: Script, limit: float) -> bytes:
    """Run a script as the operator would, with their environment, and return what it printed.

    Raises DeadlinePassed after ``limit`` seconds, FactError where the answer is too long.
    """
    try:
        done = subprocess.run(
            ["sh", "-s"],
            input=script.reveal().encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeadlinePassed(f"no answer within {int(limit)} s") from error
    if len(done.stdout) > CAP:
        raise FactError(f"this machine answered more than {CAP} bytes")
    return done.stdout


OPERATOR = "(the operator)"
"""The address of this machine as the operator uses it: no host can be called so."""


@dataclass(frozen=True, kw_only=True)
class OperatorSession:
    """The operator's own shell here, with their environment and without any more rights."""

    def run(self, script: Script, limit: float) -> bytes:
        """Run ``script`` as the operator would; see ``transport.Session``."""
        return ask_here(script, limit)


@dataclass(frozen=True, kw_only=True)
class LocalSession:
    """A root shell here, each run a process of its own."""

    node: Node
    password: Secret | None

    def run(self, script: Script, limit: float) -> bytes:
        """Run ``script`` as root; see ``transport.Session``."""
        command = shlex.split(command_line(self._method(), "", limit))
        try:
            done = subprocess.run(
                command,
                input=script.reveal().encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=limit + 10,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DeadlinePassed(f"no answer within {int(limit)} s") from error
        except OSError as error:
            raise Unreachable(f"no shell: {command[0]}: {error.strerror}") from error
        if len(done.stdout) > CAP:
            raise FactError(f"this machine answered more than {CAP} bytes")
        return explained(done.stdout, self.node)

    def _method(self) -> str:
        # The password goes to a sudo that runs nothing: a wrong one is tried once, and no line of
        # a script can be taken for another try, nor the password for a line of a script.
        if self.node.sudo.method != "password":
            return self.node.sudo.method
        given = f"{self.password.reveal()}\n" if self.password else ""
        try:
            asked = subprocess.run(
                ["sudo", "-S", "-p", "", "-v"],
                input=given.encode(),
                capture_output=True,
                check=False,
            )
        except OSError as error:
            hint = "install sudo, or be root"
            raise LoginRefused(f"sudo: {error.strerror}", hint=hint) from error
        if asked.returncode:
            raise LoginRefused("sudo refused: the password is wrong")
        return "passwordless"
