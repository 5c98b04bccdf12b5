"""Workers of a Dask cluster: each node's work goes to one that can reach it.

A label of a node names its site, and a resource of a worker names the site that it stands at:
``dask worker tls://... --resources "berlin=25"`` takes 25 nodes of Berlin at once. A node without
the label is for any worker.

Whatever is secret stays where it is: a worker reads keys, passwords and kubeconfigs at the places
that the inventory names, on its own disk. Where one dies another goes there, and reads the node
before it does anything: what was finished is not done twice.
"""

import contextlib
import dataclasses
import ipaddress
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nodeprep import __version__, credentials, executors, transport
from nodeprep.credentials import Passwords
from nodeprep.errors import NodeFailed, NodeprepError, Unreachable, UsageError
from nodeprep.model import Desired, Node, Outcome
from nodeprep.shell import Script, Secret
from nodeprep.transport import Limits, Session
from nodeprep.visits import Task, Visitor, packed

if TYPE_CHECKING:
    from distributed import Client, Future

LOOK_EVERY = 5.0
"""Seconds between two looks at whether there still is a worker for a node."""

READS_AT_WORKER = ("file:",)
"""Where a sudo password may be for a worker to read it; it cannot ask anybody."""


@dataclass(frozen=True, kw_only=True)
class Scheduler:
    """Where a scheduler listens, and what a client proves itself with: PEM files.

    What is ``None`` is as Dask's own configuration has it. ``label`` is the nodes' label that names
    their site. ``patience`` is in seconds: how long a scheduler, or a worker for a node, is waited
    for.
    """

    address: str
    ca_file: str | None = None
    cert: str | None = None
    key: str | None = None
    label: str = "site"
    patience: float = 60


@contextlib.contextmanager
def joined(scheduler: Scheduler) -> Iterator["Fleet"]:
    """Connect to a scheduler, and leave it afterwards with nothing of ours on it.

    Raises UsageError where it is not there, where it is not encrypted and not on this machine, and
    where ``distributed`` is not installed.
    """
    _refuse_plain(scheduler.address)
    try:
        from distributed import Client, Security
    except ImportError as error:
        raise UsageError(
            "Dask is not installed here", hint="pip install 'nodeprep[fleet]'"
        ) from error
    named = {
        "tls_ca_file": scheduler.ca_file,
        "tls_client_cert": scheduler.cert,
        "tls_client_key": scheduler.key,
    }
    files = {key: path for key, path in named.items() if path}
    encrypted = scheduler.address.startswith("tls:")
    try:
        security = Security(require_encryption=encrypted, **files)
        client = Client(
            scheduler.address,
            security=security,
            timeout=scheduler.patience,
            set_as_default=False,
            name="nodeprep",
        )
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise UsageError(
            f"no scheduler at {scheduler.address}: {error}",
            hint="docs/fleet.md has how to start one",
        ) from error
    with client:
        yield Fleet(client=client, scheduler=scheduler, sites=_Sites(client))


def _refuse_plain(address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme == "tls":
        return
    with contextlib.suppress(ValueError):
        if parts.scheme == "tcp" and ipaddress.ip_address(parts.hostname or "").is_loopback:
            return
    raise UsageError(
        f"{address} would not be encrypted, and is not this machine",
        hint="name the scheduler as tls://HOST:PORT",
    )


# --- on a worker ----------------------------------------------------------------------------


def visit(version: str, task: Task, limits: Limits, node: Node) -> Outcome:
    """Do a task at a node from here; what comes of it is fit to travel back."""
    try:
        _agree(version)
        passwords = credentials.passwords([node])
    except NodeprepError as error:
        return packed(Outcome(node=node, error=error))
    visitor = Visitor(task=task, connect=transport.connect, limits=limits, passwords=passwords)
    return packed(visitor(node))


def ask(
    version: str, node: Node, script: Script, limits: Limits, limit: float
) -> bytes | NodeprepError:
    """Run one script on a node from here; what it printed, or why it did not."""
    try:
        _agree(version)
        passwords = credentials.passwords([node])
        with transport.connect(node, limits, passwords) as session:
            return session.run(script, limit)
    except NodeprepError as error:
        return error


def _agree(version: str) -> None:
    if version != __version__:
        raise NodeFailed(
            f"its worker has nodeprep {__version__}, this is {version}",
            hint="install the same release on all workers",
        )


# --- here -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The workers of a scheduler, as seen from here."""

    client: "Client"
    scheduler: Scheduler
    sites: "_Sites"

    def spread(
        self, visitor: Visitor, nodes: Sequence[Node], parallel: int, stop: threading.Event
    ) -> Iterator[Outcome]:
        """Send a visitor's task to each node, at most ``parallel`` at once over all workers.

        Raises UsageError before any node is visited where a password cannot be had by a worker.
        """
        _refuse_unreadable(nodes)
        run = secrets.token_hex(4)
        return executors.threads(partial(self._visited, visitor, run), nodes, parallel, stop)

    def _visited(self, visitor: Visitor, run: str, node: Node) -> Outcome:
        began = time.monotonic()
        task: Any = visitor.task
        arguments = (__version__, task.narrowed((node.name,)), visitor.limits, node)
        try:
            visitor.refuse(node)
            outcome: Outcome = self.asked(visit, node, arguments, f"nodeprep-{run}-{node.name}")
        except NodeprepError as error:
            outcome = packed(Outcome(node=node, error=error))
        except Exception as error:  # noqa: BLE001 a defect on one node must not hide the others
            told = f"nodeprep itself failed on a worker: {type(error).__name__}: {error}"
            failed = NodeFailed(told, hint="look at the worker's log, and please report this")
            outcome = packed(Outcome(node=node, error=failed))
        visitor.remember(node, outcome.error)
        return dataclasses.replace(outcome, seconds=time.monotonic() - began)

    @contextlib.contextmanager
    def connect(self, node: Node, limits: Limits, _: Passwords) -> Iterator[Session]:
        """Give a session with a node that a worker holds for as long as each script takes."""
        _refuse_unreadable([node])
        yield _WorkerSession(fleet=self, node=node, limits=limits)

    def asked(
        self, function: Callable[..., Any], node: Node, arguments: tuple[Any, ...], key: str
    ) -> Any:
        """Return what a function returns at a worker that reaches a node. Raises Unreachable."""
        from distributed import KilledWorker

        site = node.labels.get(self.scheduler.label, "")
        try:
            future = self.client.submit(
                function,
                *arguments,
                key=key,
                resources={site: 1} if site else None,
                pure=False,
                retries=0,
            )
            return self._result(future, site)
        except NodeprepError:
            raise
        except KilledWorker as error:
            raise Unreachable(
                "each worker that went there was lost", hint="look at the workers' own logs"
            ) from error
        except Exception as error:
            # A client without its scheduler raises whatever it stumbles over: a KeyError, for one.
            if isinstance(error, CancelledError | OSError) or self.client.status != "running":
                raise Unreachable(
                    "the scheduler was lost",
                    hint="run the command again: it goes on from what is there",
                ) from error
            raise

    def _result(self, future: "Future[Any]", site: str) -> Any:
        try:
            return self._awaited(future, site)
        finally:
            # One that was kept would be done again when the worker that holds it dies.
            if not future.done():
                future.cancel()
            future.release()

    def _awaited(self, future: "Future[Any]", site: str) -> Any:
        lonely_since: float | None = None
        while True:
            with contextlib.suppress(TimeoutError):
                return future.result(timeout=LOOK_EVERY)
            if self.sites.has_worker(site):
                lonely_since = None
                continue
            lonely_since = lonely_since or time.monotonic()
            if time.monotonic() - lonely_since >= self.scheduler.patience:
                which = f"of the site {site}" if site else "at all"
                hint = f'dask worker {self.scheduler.address} --resources "{site or "SITE"}=25"'
                raise Unreachable(f"there is no worker {which}", hint=hint)


@dataclass(frozen=True, kw_only=True)
class _WorkerSession:
    """A node over a worker; see :class:`~nodeprep.transport.Session`."""

    fleet: Fleet
    node: Node
    limits: Limits

    def run(self, script: Script, limit: float) -> bytes:
        if any(isinstance(part, Secret) for part in script.parts):
            raise NodeFailed(
                "this would send a secret over the scheduler; nothing was sent",
                hint=f"nodeprep apply --executor dask --limit {self.node.name}",
            )
        # The place and the way are all that a worker needs of it.
        bare = dataclasses.replace(self.node, desired=Desired())
        arguments = (__version__, bare, script, self.limits, limit)
        key = f"nodeprep-{secrets.token_hex(8)}"
        answer = self.fleet.asked(ask, self.node, arguments, key)
        if isinstance(answer, NodeprepError):
            raise answer
        return bytes(answer)


class _Sites:
    """Which sites have a worker now; the scheduler is asked once in a few seconds at most."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._lock = threading.Lock()
        self._asked = float("-inf")
        self._resources: tuple[frozenset[str], ...] = ()

    def has_worker(self, site: str) -> bool:
        with self._lock:
            if time.monotonic() - self._asked > LOOK_EVERY / 2:
                workers = self._client.scheduler_info()["workers"].values()
                self._resources = tuple(frozenset(each["resources"]) for each in workers)
                self._asked = time.monotonic()
            return any(not site or site in resources for resources in self._resources)


def _refuse_unreadable(nodes: Sequence[Node]) -> None:
    for node in nodes:
        if node.sudo.method == "password" and not node.sudo.password.startswith(READS_AT_WORKER):
            raise UsageError(
                f"a worker cannot read the sudo password of {node.name} from where it is",
                hint="sudo: {password: {file: PATH}}, a file of each worker",
            )
