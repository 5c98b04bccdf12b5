"""kube-proxy's command line, release by release."""

from typing import Any

import pytest

from nodeprep.flags import command_line
from nodeprep.releases import Version
from tests.topics import node

CONFIG = "/var/lib/kube-proxy/config.yaml"


def flags(minor: int, **proxy: Any) -> tuple[str, ...]:
    return command_line(node(style="flags", **proxy), Version(1, minor))


def test_release_1_20_gets_every_flag_in_order() -> None:
    assert flags(20, cluster_cidr="10.254.0.0/16", masquerade_all=True) == (
        "--bind-address=0.0.0.0",
        "--hostname-override=node-1",
        "--cluster-cidr=10.254.0.0/16",
        "--kubeconfig=/etc/kubernetes/kube-proxy.kubeconfig",
        "--logtostderr=true",
        "--proxy-mode=ipvs",
        "--masquerade-all=true",
        "--ipvs-scheduler=rr",
        "--ipvs-sync-period=30s",
        "--ipvs-min-sync-period=2s",
        "--healthz-bind-address=0.0.0.0:10256",
        "--metrics-bind-address=127.0.0.1:10249",
        "--v=2",
    )


@pytest.mark.parametrize(("minor", "known"), [(14, True), (25, True), (26, False), (37, False)])
def test_logtostderr_is_gone_from_1_26_on(minor: int, *, known: bool) -> None:
    assert ("--logtostderr=true" in flags(minor)) is known


@pytest.mark.parametrize("minor", [14, 20, 26, 29, 37])
def test_with_a_file_only_the_two_flags_that_every_release_knows_are_given(minor: int) -> None:
    assert command_line(node(), Version(1, minor)) == (f"--config={CONFIG}", "--v=2")


def test_only_the_flags_of_the_mode_are_given() -> None:
    assert not any("ipvs" in flag for flag in flags(34, mode="iptables"))
    assert "--iptables-sync-period=30s" in flags(34, mode="iptables")
    assert not any("sync-period" in flag for flag in flags(34, mode="nftables"))
