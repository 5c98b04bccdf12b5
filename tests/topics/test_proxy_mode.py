"""The mode in effect: who is believed, and what is said where nobody can be asked."""

import dataclasses
from typing import Any

import pytest

from nodeprep.model import Facts, Finding, Status
from nodeprep.topics import proxy_mode as topic
from nodeprep.topics.proxy_mode import EFFECTIVE
from tests import facts
from tests.topics import named, node, of


def seen(system: str) -> Facts:
    return of({EFFECTIVE: facts.read(EFFECTIVE, system)})


def said(text: str, **proxy: Any) -> Finding:
    return named(topic.findings(node(**proxy), of({EFFECTIVE: EFFECTIVE.parse(text)})), "mode")


def test_an_address_that_another_kube_proxy_answers_at_is_no_proof() -> None:
    for mode, logged in (("iptables", "ipvs"), ("ipvs", "iptables")):
        finding = said(f"running\nmode {mode}\nlog:\nUsing {logged} Proxier.\n")
        assert finding.status is Status.FAIL
        assert finding.actual == f"{logged} (log), but {mode} at 127.0.0.1:10249"


@pytest.mark.parametrize("mode", ["iptables", "ipvs", "nftables"])
def test_each_mode_in_effect_is_fine_where_it_is_wanted(mode: str) -> None:
    assert said(f"running\nmode {mode}\nlog:\n", mode=mode).status is Status.OK


def test_a_silent_fallback_is_found_by_proxy_mode() -> None:
    finding = said("running\nmode iptables\nlog:\nE0626 Can't use the IPVS proxier: not loaded\n")
    assert finding.status is Status.FAIL
    assert finding.actual == "iptables (/proxyMode): E0626 Can't use the IPVS proxier: not loaded"
    assert finding.wanted == "ipvs"


def test_a_silent_fallback_is_found_by_the_log() -> None:
    finding = named(topic.findings(node(), seen("v1.10-fallback")), "mode")
    assert finding.status is Status.FAIL
    assert finding.actual.startswith("iptables (log): E0514")
    assert "required kernel modules are not loaded" in finding.actual
    assert "systemctl restart kube-proxy.service" in finding.hint


@pytest.mark.parametrize("system", ["v1.11", "v1.36"])
def test_the_log_of_every_release_names_the_mode(system: str) -> None:
    assert named(topic.findings(node(), seen(system)), "mode").status is Status.OK


def test_the_last_mode_in_the_log_counts() -> None:
    text = "running\nmode \nlog:\nUsing ipvs Proxier.\nUsing iptables Proxier.\n"
    assert EFFECTIVE.parse(text).logged == "iptables"


def test_a_log_line_that_ends_like_our_own_title_is_a_log_line() -> None:
    text = "running\nmode \nlog:\nerror: can't use ipvs:\nUsing iptables Proxier.\n"
    assert EFFECTIVE.parse(text).complaints == ("error: can't use ipvs:",)
    assert EFFECTIVE.parse(text).logged == "iptables"


@pytest.mark.parametrize("body", ["404 page not found", "<html>", "IPVS", ""])
def test_an_answer_that_is_no_mode_is_none(body: str) -> None:
    assert EFFECTIVE.parse(f"running\nmode {body}\nlog:\n").mode == ""


def test_a_process_that_is_not_there_is_no_verdict() -> None:
    finding = named(topic.findings(node(), seen("not-running")), "mode")
    assert (finding.status, finding.actual) == (Status.SKIP, "kube-proxy does not run")


def test_a_process_that_ended_with_a_complaint_fails_with_it() -> None:
    finding = named(topic.findings(node(), seen("v1.27-exit")), "mode")
    assert finding.status is Status.FAIL
    assert "can't use the IPVS proxier: no such file or directory" in finding.actual
    assert finding.hint == "journalctl -u kube-proxy.service -n 50"


def test_where_nothing_can_ask_it_is_a_warning_and_what_to_install() -> None:
    finding = said("running\nmode no-http-client\nlog:\n")
    assert (finding.status, finding.hint) == (Status.WARN, "install curl or bash")


def test_where_nothing_can_ask_the_log_is_believed() -> None:
    assert said("running\nmode no-http-client\nlog:\nUsing ipvs Proxier.\n").status is Status.OK


def test_a_process_that_does_not_answer_fails() -> None:
    finding = said("running\nmode \nlog:\n")
    assert finding.status is Status.FAIL
    assert finding.hint == "on node-1: curl http://127.0.0.1:10249/proxyMode"


def test_the_question_goes_to_the_address_of_the_inventory() -> None:
    assert "http_get 127.0.0.1 9999 /proxyMode" in EFFECTIVE.script(
        node(metrics_bind_address="0.0.0.0:9999")
    )


def test_services_in_the_kernels_table_are_counted() -> None:
    finding = named(topic.findings(node(), seen("v1.18")), "virtual servers")
    assert (finding.status, finding.actual) == (Status.OK, "7, with 13 real servers")


def test_an_empty_table_is_a_warning() -> None:
    finding = named(topic.findings(node(), seen("v1.25-empty-table")), "virtual servers")
    assert (finding.status, finding.actual) == (Status.WARN, "none")


def test_the_table_says_nothing_of_another_mode() -> None:
    effective = dataclasses.replace(facts.read(EFFECTIVE, "v1.18"), mode="nftables")
    (finding,) = topic.findings(node(mode="nftables"), of({EFFECTIVE: effective}))
    assert finding.name == "mode"


def test_an_unmanaged_kube_proxy_is_not_asked() -> None:
    unmanaged = node(style="unmanaged")
    assert EFFECTIVE.script(unmanaged) == ":"
    assert topic.findings(unmanaged, seen("not-running")) == ()


def test_looking_never_loads_a_module() -> None:
    script = EFFECTIVE.script(node())
    assert script.index("[ -e /proc/net/ip_vs ]") < script.index("ipvsadm -Ln")


def test_a_pod_is_asked_at_its_address_whatever_systemd_knows() -> None:
    script = EFFECTIVE.script(node(managed_by="daemonset"))
    assert "systemctl" not in script
    assert "/proxyMode" in script
    assert said("running\nmode ipvs\n", managed_by="daemonset").status is Status.OK
    silent = said("running\nmode \n", managed_by="daemonset")
    assert (silent.status, silent.actual) == (Status.FAIL, "kube-proxy does not answer")
    other = said("running\nmode iptables\n", managed_by="daemonset")
    assert other.hint == "nodeprep switch --to ipvs; and see what the pod's log says"
