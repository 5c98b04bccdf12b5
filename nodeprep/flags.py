"""kube-proxy's command line, as its release understands it."""

from collections.abc import Mapping

from nodeprep.model import Node
from nodeprep.releases import Version, feature_gates, knows_flag


def command_line(node: Node, release: Version) -> tuple[str, ...]:
    """Return kube-proxy's flags, in the order of the article, without those the release lacks."""
    proxy = node.desired.kube_proxy
    if proxy.style == "config":
        return f"--config={proxy.config}", f"--v={proxy.verbosity}"
    gates = {**feature_gates(proxy.mode, release), **proxy.feature_gates}
    every = {
        "bind-address": proxy.bind_address,
        "hostname-override": proxy.hostname_override or node.name,
        "cluster-cidr": proxy.cluster_cidr,
        "kubeconfig": proxy.kubeconfig,
        "logtostderr": "true",
        "proxy-mode": proxy.mode,
        "masquerade-all": "true" if proxy.masquerade_all else None,
        **_mode_flags(node),
        "nodeport-addresses": ",".join(proxy.node_port_addresses) or None,
        "conntrack-max-per-core": proxy.conntrack_max_per_core,
        "healthz-bind-address": proxy.healthz_bind_address,
        "metrics-bind-address": proxy.metrics_bind_address,
        "feature-gates": ",".join(f"{k}={str(v).lower()}" for k, v in sorted(gates.items()))
        or None,
        "v": proxy.verbosity,
    }
    return tuple(
        f"--{flag}={value}"
        for flag, value in every.items()
        if value is not None and knows_flag(flag, release)
    )


def _mode_flags(node: Node) -> Mapping[str, str | None]:
    proxy = node.desired.kube_proxy
    if proxy.mode == "nftables":  # its periods have no flags, only fields
        return {}
    periods: dict[str, str | None] = {
        f"{proxy.mode}-sync-period": proxy.sync_period,
        f"{proxy.mode}-min-sync-period": proxy.min_sync_period,
    }
    if proxy.mode == "iptables":
        return periods
    return {
        "ipvs-scheduler": proxy.scheduler,
        "ipvs-strict-arp": "true" if proxy.strict_arp else None,
        "ipvs-exclude-cidrs": ",".join(proxy.exclude_cidrs) or None,
        **periods,
    }
