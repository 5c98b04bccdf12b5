"""What an inventory may say: one class for each block, one line for each key.

``defaults``, every group and every node hold the same settings. A key that is not written is not
in ``model_fields_set``; the defaults that stand here are those of :mod:`nodeprep.model`.
"""

from typing import Annotated, Any, Literal, Self, TypeVar, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from nodeprep.inventory.allowed import OrOne, Surroundings
from nodeprep.inventory.fields import (
    Chain,
    Comment,
    ContextName,
    ControllerPath,
    Directions,
    Duration,
    ExistingFile,
    FeatureGate,
    GroupName,
    KubeconfigPath,
    LabelKey,
    LabelValue,
    Module,
    NodePath,
    Package,
    Scheduler,
    SetEntry,
    SetName,
    SshConfig,
    SysctlKey,
    SysctlText,
    UnitPath,
    Version,
)
from nodeprep.inventory.hosts import (
    Address,
    Cidr,
    ClusterCidr,
    Endpoint,
    Hop,
    HostName,
    Ip,
    Name,
    NodePortAddress,
    Port,
    PortRange,
    User,
)
from nodeprep.inventory.ipsets import Wish, entries
from nodeprep.iptables import BUILT_IN
from nodeprep.model import BypassRule, Firewall, IpSet, KubeProxy, Mode

T = TypeVar("T")

HERE = "here"
"""The place of the operator's own kubectl; no node can be asked for by this name."""

WORD, NUMBER, MAPPING = "<word>", "<number>", "<mapping>"
"""The shapes that one value may have; no key can be called so."""


def _key(description: str, default: object = None) -> Any:
    return Field(default=default, description=description)


def _shape(value: object) -> str | None:
    if isinstance(value, dict | BaseModel):
        return MAPPING
    if isinstance(value, int) and not isinstance(value, bool):
        return NUMBER
    return WORD if isinstance(value, str) else None


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _either(wanted: str) -> Discriminator:
    return Discriminator(
        _shape,
        custom_error_type="wanted",
        custom_error_message="{wanted} is wanted here",
        custom_error_context={"wanted": wanted},
    )


Word = Annotated[T, Tag(WORD)]
Number = Annotated[T, Tag(NUMBER)]
Keys = Annotated[T, Tag(MAPPING)]
Many = Annotated[tuple[T, ...], Strict(strict=False)]
OneOrMany = Annotated[Many[T], BeforeValidator(_listed), OrOne()]


class Value(BaseModel):
    """A mapping that replaces another one whole."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Block(Value):
    """A mapping that is merged with others key by key."""


class SshBlock(Block):
    """How nodeprep reaches a node."""

    user: User = _key("Login name. Default: the ssh config's, then your own.")
    port: Port = _key("Port of sshd, 1 to 65535. Default: the ssh config's, then 22.")
    identity_file: ControllerPath = _key("Private key file. Default: the ssh config's, the agent.")
    known_hosts: OneOrMany[ControllerPath] = _key(
        "Files of known host keys, one or a list. "
        "Default: ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts."
    )
    host_keys: Literal["strict", "accept-new"] = _key(
        "What to do with a host key that is not known: refuse it (strict), or learn it "
        "(accept-new). A key that has changed is always refused.",
        "strict",
    )
    jump: OneOrMany[Hop] = _key(
        "Hosts to go through, [user@]host[:port], one or a list, the first hop first. [] for none."
    )
    config: SshConfig = _key(
        "The ssh config file to honour: a path, none, or default, which is ~/.ssh/config.",
        "default",
    )

    @field_validator("known_hosts")
    @classmethod
    def _some(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        if not files:
            raise ValueError("without a file of known hosts no node could be trusted: name one")
        return files


class PasswordPlace(Value):
    """Where the sudo password is kept."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    file: ControllerPath = _key("A file on this machine with the password as its first line.")
    descriptor: Annotated[int, Field(ge=0, le=1023)] = _key(
        "An open file descriptor to read the password from, as in 3< <(pass show sudo)."
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("write either `file` or `descriptor`")
        return self


class SudoByPassword(Value):
    """Become root with a password, which itself never stands in an inventory."""

    password: Annotated[
        Word[Literal["ask"]] | Keys[PasswordPlace],
        _either("`ask`, {file: PATH} or {descriptor: N}"),
    ] = Field(description="ask, {file: PATH} or {descriptor: N}.")


class Bounded(Value):
    """A kernel parameter that may be larger, or smaller, but not the other way."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    at_least: int | None = _key("The smallest whole number that will do.")
    at_most: int | None = _key("The largest whole number that will do.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("write either `at_least` or `at_most`")
        return self


class IpSetEntry(Value):
    """A named set of addresses, networks or more, that iptables rules can match."""

    type: Literal[
        "hash:ip",
        "hash:net",
        "hash:mac",
        "hash:ip,mac",
        "hash:ip,port",
        "hash:net,port",
        "hash:net,iface",
        "hash:net,net",
        "hash:ip,port,ip",
        "hash:ip,port,net",
    ] = _key("What its entries are made of; see ipset(8).", IpSet.type)
    family: Literal["inet", "inet6"] = _key("IPv4 (inet) or IPv6 (inet6).", "inet")
    timeout: Annotated[int, Field(ge=0, le=2_147_483)] = _key(
        "Seconds after which entries that others add expire; those that stand here stay. "
        "Default: entries do not expire."
    )
    maxelem: Annotated[int, Field(ge=1, le=2**31 - 1)] = _key(
        "The most entries it may have.", IpSet.maxelem
    )
    hashsize: Annotated[int, Field(ge=64, le=2**31 - 1)] = _key(
        "The size it begins with. Default: the kernel's, which grows by itself."
    )
    entries: Many[SetEntry] = _key("Its entries, such as 192.0.2.7 or '10.0.0.0/8,tcp:80'.", ())
    entries_from: ExistingFile = _key(
        "A file on this machine with more entries, one a line, with # comments."
    )

    @model_validator(mode="after")
    def _listed(self, info: ValidationInfo) -> Self:
        if self.type == "hash:mac" and "family" in self.model_fields_set:
            raise ValueError("a set of MAC addresses has no family: remove the key `family`")
        wish = Wish(
            type=self.type,
            family=self.family,
            maxelem=self.maxelem,
            entries=self.entries,
            file=self.entries_from,
        )
        around = cast("Surroundings", info.context)
        return self.model_copy(update={"entries": entries(wish, around)})


class BypassRuleEntry(Value):
    """An iptables rule by which the entries of an ipset leave a chain early."""

    set: SetName = Field(description="The ipset it matches, one of `ipsets`.")
    table: Literal["nat", "filter", "mangle", "raw"] = _key("Its table.", BypassRule.table)
    chain: Chain = _key("Its chain, built-in or somebody's own.", BypassRule.chain)
    position: Literal["first", "last"] = _key(
        "Ahead of kube-proxy's jumps (first), or behind them (last).", BypassRule.position
    )
    match: Directions = _key(
        "What of a packet is looked up: src or dst, one for each part of an entry, as in src,dst.",
        BypassRule.match,
    )
    comment: Comment = _key("By which it is found again in its chain. Default: the set's name.")
    target: Literal["RETURN", "ACCEPT", "DROP"] = _key(
        "What becomes of the packet: RETURN skips the rest of the chain.", BypassRule.target
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        every = {chain for chains in BUILT_IN.values() for chain in chains}
        if self.chain in every and self.chain not in BUILT_IN[self.table]:
            known = ", ".join(BUILT_IN[self.table])
            raise ValueError(f"the table {self.table} has no {self.chain}, but {known}")
        if (self.table, self.target) == ("nat", "DROP"):
            raise ValueError("the table nat takes no DROP: write `table: filter` or `table: raw`")
        return self


class FirewallBlock(Block):
    """What must get through the node's firewall, which is never switched off."""

    open: bool = _key(
        "Open in firewalld what is missing; otherwise say what to type.", Firewall.open
    )
    node_ports: PortRange = _key(
        "The range of the node ports, such as 30000-32767, where they must be reached. "
        "Default: none."
    )
    health_check: bool = _key(
        "A load balancer asks kube-proxy's health check, so its port must be reached.",
        Firewall.health_check,
    )


class KubeProxyBlock(Block):
    """kube-proxy and what runs it; the names are those of KubeProxyConfiguration."""

    mode: Mode = _key("iptables, ipvs or nftables.", KubeProxy.mode)
    managed_by: Literal["systemd", "daemonset"] = _key(
        "What runs it: a unit of nodeprep's (systemd), or the cluster itself, as kubeadm does "
        "(daemonset).",
        KubeProxy.managed_by,
    )
    style: Literal["config", "flags", "unmanaged"] = _key(
        "A configuration file (config), a unit where everything is a flag (flags), or prepare the "
        "node and leave kube-proxy alone (unmanaged).",
        KubeProxy.style,
    )
    run: Literal["if-present", "required", "never"] = _key(
        "Start it where its binary is (if-present), fail where it is not (required), or only put "
        "files in place for a later boot (never).",
        KubeProxy.run,
    )
    version: Version = _key("Assumed where the binary cannot be asked yet, such as '1.34'.")
    binary: NodePath = _key("The program on the node.", KubeProxy.binary)
    unit: UnitPath = _key("The systemd unit's file on the node.", KubeProxy.unit)
    working_directory: NodePath = _key("Its working directory.", KubeProxy.working_directory)
    config: NodePath = _key("Its configuration file on the node.", KubeProxy.config)
    kubeconfig: NodePath = _key("Its kubeconfig on the node.", KubeProxy.kubeconfig)
    kubeconfig_from: ExistingFile = _key(
        "A kubeconfig on this machine to put there, handled as a secret. Default: none is put."
    )
    bind_address: Ip = _key("The IP address that tells its family.", KubeProxy.bind_address)
    hostname_override: HostName = _key(
        "The name of the Node object, where it is not the node's name here."
    )
    cluster_cidr: ClusterCidr = _key(
        "The pods' network; for dual stack one IPv4 and one IPv6 network, separated by a comma."
    )
    masquerade_all: bool = _key("Masquerade all traffic to services.", KubeProxy.masquerade_all)
    scheduler: Scheduler = _key(
        "IPVS scheduler: rr, wrr, lc, wlc, lblc, lblcr, sh, dh, sed, nq, mh, fo, ovf, twos.",
        KubeProxy.scheduler,
    )
    strict_arp: bool = _key(
        "Answer ARP only for an interface's own addresses, as MetalLB and kube-vip need it.",
        KubeProxy.strict_arp,
    )
    exclude_cidrs: Many[Cidr] = _key("Networks whose IPVS services it leaves alone.", ())
    node_port_addresses: Many[NodePortAddress] = _key(
        "Where node ports answer: networks, primary, localhost or all.", ()
    )
    sync_period: Duration = _key("Longest time between two syncs.", KubeProxy.sync_period)
    min_sync_period: Duration = _key("Shortest such time.", KubeProxy.min_sync_period)
    conntrack_max_per_core: Annotated[int, Field(ge=0, le=2**31 - 1)] = _key(
        "Tracked connections per core; 0 leaves the node's limit alone. Default: kube-proxy's own."
    )
    healthz_bind_address: Endpoint = _key(
        "IP address and port of its health check.", KubeProxy.healthz_bind_address
    )
    metrics_bind_address: Endpoint = _key(
        "IP address and port of its metrics.", KubeProxy.metrics_bind_address
    )
    feature_gates: dict[FeatureGate, bool] = _key("Feature gates, true or false each.")
    verbosity: Annotated[int, Field(ge=0, le=10)] = _key("Log level, 0 to 10.", KubeProxy.verbosity)


class Settings(Block):
    """What defaults, a group or a node may set."""

    ssh: SshBlock = _key("How to open a session.")
    sudo: Annotated[
        Word[Literal["none", "passwordless"]] | Keys[SudoByPassword],
        _either("none, passwordless or {password: ask}"),
    ] = _key(
        "How to become root: none (log in as root), passwordless, or {password: ask}, "
        "{password: {file: PATH}}, {password: {descriptor: N}}.",
        "none",
    )
    labels: dict[LabelKey, LabelValue] = _key("Labels, to select nodes with --limit role=worker.")
    modules: Many[Module] = _key("Kernel modules to load beyond those of the proxy mode.", ())
    sysctls: dict[
        SysctlKey,
        Annotated[
            Number[int] | Word[SysctlText] | Keys[Bounded],
            _either("a whole number, text, {at_least: N} or {at_most: N}"),
        ],
    ] = _key("Kernel parameters: a whole number, text, {at_least: N} or {at_most: N}.")
    packages: Many[Package] = _key("Packages to install beyond those of the proxy mode.", ())
    packages_from: NodePath = _key(
        "A directory on the node with packages, for nodes without a repository: packages are "
        "taken from there only."
    )
    module_packages: Literal["name", "install"] = _key(
        "What to do where the running kernel lacks a module: name the package that has it, or "
        "install it, for this kernel and no other.",
        "name",
    )
    ipsets: dict[SetName, IpSetEntry] = _key("Ipsets by their names, kept as they stand here.")
    bypass_rules: Many[BypassRuleEntry] = _key("iptables rules that match these ipsets.")
    adopt: bool = _key(
        "Take over files, ipsets and rules of others where nodeprep would put its own.",
        False,  # noqa: FBT003 the default's own value
    )
    firewall: FirewallBlock = _key("What must get through the node's firewall.")
    kube_proxy: KubeProxyBlock = _key("kube-proxy's settings.")


class NodeEntry(Settings):
    """One node, or a folded row of them; what it sets wins over its groups and the defaults."""

    name: Name = Field(description="The node's name, or a folded one such as worker[01-40].")
    address: Address = _key(
        "IPv4 or IPv6 address, DNS name, or `local` for this machine. Default: the name."
    )
    groups: Many[GroupName] = _key("Groups it is in; of two, the later one wins.", ())


class KubectlBlock(Block):
    """Which kubectl speaks with the cluster, and as whom."""

    on: HostName = _key(
        "The node that it runs on, over SSH and as root; or `here`, for your own on this machine. "
        "Default: the first node with the group or the role `control-plane`."
    )
    kubeconfig: KubeconfigPath = _key(
        "Its kubeconfig: on the node an absolute path, by default /etc/kubernetes/admin.conf; "
        "here a file of this machine, by default kubectl's own choice."
    )
    context: ContextName = _key("A context of it. Default: its current one.")

    @model_validator(mode="after")
    def _placed(self, info: ValidationInfo) -> Self:
        if "kubeconfig" not in self.model_fields_set:
            return self
        if self.on == HERE:
            around = cast("Surroundings", info.context)
            path = around.base / self.kubeconfig.replace("~", str(around.home), 1)
            return self.model_copy(update={"kubeconfig": str(path)})
        if not self.kubeconfig.startswith("/"):
            raise ValueError("on a node the `kubeconfig` is an absolute path; or write `on: here`")
        return self


class ClusterBlock(Block):
    """The cluster that the nodes are part of, where its DaemonSet runs kube-proxy."""

    kubectl: KubectlBlock = _key("Which kubectl speaks with it.")


class InventoryFile(Value):
    """The machines that nodeprep prepares, and what each should be."""

    defaults: Settings = Field(default_factory=Settings, description="Settings of every node.")
    groups: dict[GroupName, Settings] = Field(
        default_factory=dict, description="Settings of the nodes that list the group."
    )
    nodes: Many[NodeEntry] = Field(description="The machines.", json_schema_extra={"minItems": 1})
    cluster: ClusterBlock = _key("The cluster, where its DaemonSet runs kube-proxy.")
