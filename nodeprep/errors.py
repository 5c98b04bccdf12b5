"""Every way nodeprep can fail, in one small tree.

::

    NodeprepError                exit code
    ├── UsageError               2   the command line asks for something that is not there
    │   └── InventoryError       2   problems in an inventory file, all of them, each with its place
    ├── StalePlan                3   the node is not as the plan saw it; nothing was written
    ├── LockHeld                 3   somebody else is changing this node; nothing was written
    ├── Unreachable              4   no session could be had
    │   ├── HostKeyRefused       4   the node's key is unknown or has changed
    │   ├── LoginRefused         4   no key or password was accepted, or sudo said no
    │   └── DeadlinePassed       4   the node went quiet
    ├── NodeFailed               1   the node answered, and what it answered is a failure
    │   └── FactError            1   an answer that cannot be read
    ├── LabError                 2   virtual nodes cannot be had here
    ├── NeedsOperator            5   nothing more can be done without a hand on the node
    └── Interrupted              130 the operator said stop

An error is data: ``message`` says what is, ``hint`` what to type. It is printed as it is, and
carries no secret.
"""

from dataclasses import dataclass


class NodeprepError(Exception):
    """Base of all errors that nodeprep raises on purpose."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UsageError(NodeprepError):
    """The command line or a file named on it asks for something that is not there."""

    exit_code = 2


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong in a text file, and where: lines and columns count from 1."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}"
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class InventoryError(UsageError):
    """All problems of one inventory, in the order in which they stand in it."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(map(str, self.problems)))


class StalePlan(NodeprepError):
    """The node is no longer as the plan saw it. Nothing was written."""

    exit_code = 3


class LockHeld(NodeprepError):
    """Another run holds the node's lock. Nothing was written."""

    exit_code = 3


class Unreachable(NodeprepError):
    """No session with the node could be had, or it was lost.

    ``output`` is what came before it was lost: it tells how far a script had come.
    """

    exit_code = 4

    def __init__(self, message: str, *, hint: str = "", output: bytes = b"") -> None:
        super().__init__(message, hint=hint)
        self.output = output


class HostKeyRefused(Unreachable):
    """The host key is unknown or is not the one on record. No login was tried."""


class LoginRefused(Unreachable):
    """The node accepted none of our credentials, or sudo did not."""


class DeadlinePassed(Unreachable):
    """The node did not answer in time."""


class NodeFailed(NodeprepError):
    """The node answered, and the answer is a failure."""


class FactError(NodeFailed):
    """An answer of the node that cannot be read: torn, garbled, or too long."""


class LabError(NodeprepError):
    """Virtual nodes cannot be had on this machine, or one of them broke."""

    exit_code = 2


class NeedsOperator(NodeprepError):
    """A node is neither as it was nor as it should be, and nothing more is done to it."""

    exit_code = 5


class Interrupted(NodeprepError):
    """The operator asked to stop."""

    exit_code = 130
