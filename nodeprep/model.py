"""The nouns of nodeprep: frozen values that the pure core takes and gives.

An inventory becomes :class:`Node` values; what a node answers becomes :class:`Facts`; their
difference is a tuple of :class:`Change`; the same difference, told to a person, is a tuple of
:class:`Finding`. What came of one node is an :class:`Outcome`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, Literal, TypeVar, cast

from nodeprep.errors import NodeprepError
from nodeprep.shell import Script, Secret

T = TypeVar("T")

Mode = Literal["iptables", "ipvs", "nftables"]
MODES: tuple[Mode, ...] = ("iptables", "ipvs", "nftables")


# --- how a node is reached ------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Ssh:
    """How to open a session; ``None`` leaves a choice to the user's ssh config, then to OpenSSH.

    ``known_hosts`` are absolute paths; ``jump`` hops are ``[user@]host[:port]``, first hop first;
    ``config`` is the ssh config file to honour, ``None`` for none at all.
    """

    user: str | None = None
    port: int | None = None
    identity_file: str | None = None
    known_hosts: tuple[str, ...] = ()
    host_keys: Literal["strict", "accept-new"] = "strict"
    jump: tuple[str, ...] = ()
    config: str | None = None


@dataclass(frozen=True, kw_only=True)
class Sudo:
    """How to become root: not at all, without a password, or with one that is kept elsewhere.

    Of ``password`` only the place is known here: ``ask``, ``file:/absolute/path``, or ``fd:N``.
    """

    method: Literal["none", "passwordless", "password"] = "none"
    password: str = ""


# --- what a node should be ------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Sysctl:
    """One kernel parameter by its dotted name; a bound compares whole numbers by size."""

    key: str
    value: str
    bound: Literal["exactly", "at_least", "at_most"] = "exactly"


@dataclass(frozen=True, kw_only=True)
class IpSet:
    """A named set of addresses; see ipset(8).

    ``entries`` are in the form in which ``ipset save`` prints them, sorted, each once. ``family``
    is empty for a type that has none. ``timeout`` is for entries that others add; those here stay.
    """

    name: str
    type: str = "hash:ip"
    family: Literal["inet", "inet6", ""] = "inet"
    timeout: int | None = None
    maxelem: int = 65536
    hashsize: int | None = None
    entries: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BypassRule:
    """An iptables rule for what is in a set; it is known by ``comment`` within its chain.

    ``match`` says for each part of an entry whether the packet's source or its destination
    counts, as ``src`` or ``dst,src``. ``position`` is relative to kube-proxy's jumps.
    """

    set: str
    comment: str
    family: Literal[4, 6] = 4
    table: str = "nat"
    chain: str = "PREROUTING"
    position: Literal["first", "last"] = "first"
    match: str = "src"
    target: str = "RETURN"


@dataclass(frozen=True, kw_only=True)
class KubeProxy:
    """kube-proxy, and what runs it. Field names follow KubeProxyConfiguration, in snake case.

    ``managed_by``: ``systemd`` runs it as a unit, which is nodeprep's to write; ``daemonset`` is
    kubeadm's, one configuration for all nodes: what is for a unit alone then counts for nothing.
    ``style``: ``config`` writes a KubeProxyConfiguration file, ``flags`` writes a unit in which
    everything is a flag, ``unmanaged`` prepares the node and leaves kube-proxy alone.
    ``run``: ``if-present`` starts it where its binary is, ``required`` fails where it is not,
    ``never`` puts files in place for a later boot.
    ``version`` is assumed where the binary cannot be asked yet, such as ``1.34``.
    ``kubeconfig_from`` is a file on the controller; ``kubeconfig_content`` is what the runner read
    from it.
    """

    mode: Mode = "ipvs"
    managed_by: Literal["systemd", "daemonset"] = "systemd"
    style: Literal["config", "flags", "unmanaged"] = "config"
    run: Literal["if-present", "required", "never"] = "if-present"
    version: str | None = None
    binary: str = "/usr/local/bin/kube-proxy"
    unit: str = "/etc/systemd/system/kube-proxy.service"
    working_directory: str = "/var/lib/kube-proxy"
    config: str = "/var/lib/kube-proxy/config.yaml"
    kubeconfig: str = "/etc/kubernetes/kube-proxy.kubeconfig"
    kubeconfig_from: str | None = None
    kubeconfig_content: Secret | None = None
    bind_address: str = "0.0.0.0"  # noqa: S104 kube-proxy's own default: it opens no listener there
    hostname_override: str | None = None
    cluster_cidr: str | None = None
    masquerade_all: bool = False
    scheduler: str = "rr"
    strict_arp: bool = False
    exclude_cidrs: tuple[str, ...] = ()
    node_port_addresses: tuple[str, ...] = ()
    sync_period: str = "30s"
    min_sync_period: str = "2s"
    conntrack_max_per_core: int | None = None
    healthz_bind_address: str = "0.0.0.0:10256"
    metrics_bind_address: str = "127.0.0.1:10249"
    feature_gates: Mapping[str, bool] = field(default_factory=dict)
    verbosity: int = 2

    @property
    def is_pod(self) -> bool:
        """Whether it runs in a pod of a DaemonSet."""
        return self.managed_by == "daemonset"

    @property
    def has_unit(self) -> bool:
        """Whether its unit and its files on the node are nodeprep's to write."""
        return self.style != "unmanaged" and not self.is_pod

    @property
    def unit_name(self) -> str:
        """The unit's name, as systemctl wants it."""
        return self.unit.rpartition("/")[2]

    @property
    def metrics_endpoint(self) -> tuple[str, str]:
        """Host and port at which the node itself reaches the metrics server and ``/proxyMode``."""
        return _reached(self.metrics_bind_address)

    @property
    def healthz_endpoint(self) -> tuple[str, str]:
        """Host and port at which the node itself reaches the health server."""
        return _reached(self.healthz_bind_address)


def _reached(bind_address: str) -> tuple[str, str]:
    host, _, port = bind_address.rpartition(":")
    everywhere = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "": "127.0.0.1"}  # noqa: S104
    return everywhere.get(host, host), port


@dataclass(frozen=True, kw_only=True)
class Firewall:
    """What must get through a firewall that stays, and who opens it.

    ``open`` lets nodeprep open what is missing in firewalld; otherwise it only says so.
    ``node_ports`` is the range ``FIRST-LAST`` of the node ports, ``None`` where none are used.
    ``health_check`` says that a load balancer asks kube-proxy's health check.
    """

    open: bool = False
    node_ports: str | None = None
    health_check: bool = False


@dataclass(frozen=True, kw_only=True)
class Desired:
    """What the inventory wants of a node, beyond what the proxy mode brings with it.

    ``packages_from`` is a directory on the node: packages are taken from there, and from nowhere
    else. ``module_packages`` says what is done where a module is missing: ``name`` its package, or
    ``install`` it.

    ``adopt`` lets nodeprep take over what stands where its own would and is not its own.
    ``ipsets`` and ``bypass_rules`` are ``None`` where the inventory says nothing of them: then they
    are not looked at. Empty, those that nodeprep made are removed.
    """

    modules: tuple[str, ...] = ()
    sysctls: tuple[Sysctl, ...] = ()
    packages: tuple[str, ...] = ()
    packages_from: str | None = None
    module_packages: Literal["name", "install"] = "name"
    ipsets: tuple[IpSet, ...] | None = None
    bypass_rules: tuple[BypassRule, ...] | None = None
    firewall: Firewall = field(default_factory=Firewall)
    kube_proxy: KubeProxy = field(default_factory=KubeProxy)
    adopt: bool = False


@dataclass(frozen=True, kw_only=True)
class Node:
    """One machine. ``address`` is ``local`` for the machine nodeprep itself runs on."""

    name: str
    address: str
    groups: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    ssh: Ssh = field(default_factory=Ssh)
    sudo: Sudo = field(default_factory=Sudo)
    desired: Desired = field(default_factory=Desired)


@dataclass(frozen=True, kw_only=True)
class KubectlChoice:
    """Where kubectl runs and what it reads; ``None`` leaves a choice to nodeprep.

    ``on`` is a node's name, or ``here`` for the operator's own on this machine.
    """

    on: str | None = None
    kubeconfig: str | None = None
    context: str | None = None


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """The nodes of one inventory file, in its order, and the SHA-256 of the file's bytes."""

    path: str
    digest: str
    nodes: tuple[Node, ...]
    kubectl: KubectlChoice = field(default_factory=KubectlChoice)


# --- what a node is -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Fact(Generic[T]):
    """A question to a node: shell statements that print, and a pure parser of what they print.

    ``script`` may depend on the node's desired state (which keys, which names to look for). Where
    it is empty nothing is asked, and ``parse`` is given an empty text.
    """

    name: str
    script: Callable[[Node], str]
    parse: Callable[[str], T]


FileKind = Literal["absent", "regular", "symlink", "directory", "other"]


@dataclass(frozen=True, kw_only=True)
class FileState:
    """A path on a node. ``content`` is ``None`` for secrets and for files too large to show.

    ``real_parent`` is the folder with all links resolved, empty where there is none yet.
    ``mtime`` is in seconds of the node's own clock; ``digest`` is a SHA-256 in hex. ``ours`` says
    that the file carries our mark; ``writable`` is false on read-only and immutable places.
    """

    path: str
    kind: FileKind = "absent"
    mode: int = 0
    owner: str = "0:0"
    links: int = 1
    size: int = 0
    mtime: int = 0
    digest: str = ""
    content: bytes | None = None
    real_parent: str = ""
    ours: bool = False
    writable: bool = True


@dataclass(frozen=True)
class Facts:
    """Everything one probe learned of one node; ``facts[FACT]`` has FACT's type."""

    values: Mapping[str, object]
    files: Mapping[str, FileState] = field(default_factory=dict)

    def __getitem__(self, fact: Fact[T]) -> T:
        return cast("T", self.values[fact.name])

    def known(self, fact: Fact[T]) -> T | None:
        """Return the value of a fact, ``None`` where nobody asked."""
        return cast("T | None", self.values.get(fact.name))

    def having(self, fact: Fact[T], value: T) -> "Facts":
        """Return these facts and one more, which was learned elsewhere than on the node."""
        return Facts({**self.values, fact.name: value}, self.files)

    def file(self, path: str) -> FileState:
        """What stands at ``path``; a path that was not asked for counts as absent."""
        return self.files.get(path, FileState(path=path))

    def joined(self, more: "Facts") -> "Facts":
        """Return these facts and ``more``; where both know one, ``more`` counts."""
        return Facts({**self.values, **more.values}, {**self.files, **more.files})


# --- the difference -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What the plan saw at a path: its SHA-256 in hex, or ``absent``."""

    path: str
    seen: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """One step towards the desired state.

    ``action`` holds the shell statements; ``diff`` is a unified diff, empty where there is no
    file or where the file is a secret. A ``disruptive`` change touches a service that runs now: it
    waits until nothing before it in the story is beyond mending. ``place`` is where it is made: on
    the node itself, or where the cluster's ``kubectl`` runs.
    """

    topic: str
    subject: str
    summary: str
    action: Script
    guard: Guard | None = None
    diff: str = ""
    disruptive: bool = False
    place: Literal["node", "cluster"] = "node"


APPLY = "nodeprep apply"
"""The hint of a finding that a change of ours will end: by it, plan and verify hold together."""


class Status(StrEnum):
    """The verdict of a check. Only ``FAIL`` makes a node count as not ready."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One named check: what is, what should be, and what to type where they differ."""

    topic: str
    name: str
    status: Status
    actual: str = ""
    wanted: str = ""
    hint: str = ""


# --- what came of it ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """How one change ended: its exit status on the node, ``None`` where it was not tried."""

    change: Change
    exit_status: int | None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one node. A failure is a value here, so that it never hides another node."""

    node: Node
    facts: Facts | None = None
    changes: tuple[Change, ...] = ()
    steps: tuple[StepResult, ...] = ()
    findings: tuple[Finding, ...] = ()
    log: str = ""
    error: NodeprepError | None = None
    seconds: float = 0.0
