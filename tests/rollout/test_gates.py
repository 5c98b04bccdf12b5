"""Every gate, open and shut: what a fresh reading says, and what it is taken for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeprep.errors import FactError
from nodeprep.model import Fact, Facts, Finding, Node, Status
from nodeprep.rollout import artefacts, gates, way_back
from nodeprep.rollout.artefacts import Artefacts, Rules
from nodeprep.rollout.gates import HEALTH, Answer, Health
from nodeprep.rollout.machine import VERBS, Verb
from nodeprep.rollout.operator import Gate
from nodeprep.rollout.switching import Aim
from nodeprep.rollout.systemd import Systemd
from nodeprep.rollout.way_back import Record
from nodeprep.shell import TCP_OPEN, Script
from nodeprep.topics.kube_proxy import SERVICE
from nodeprep.topics.proxy_mode import EFFECTIVE, Effective
from tests.shells import output
from tests.topics import NOW, RUNNING, node, of

RUN = "20261123T070000Z-0a1b2c"
AIM = Aim(run=RUN, to="ipvs", kubernetes="10.254.0.1:443")
RECORD = way_back.record(RUN)
ARMED = Record(
    state="armed",
    gone="iptables",
    to="ipvs",
    began_as="b 1 10",
    process="b 2 20",
    armed_by=RUN,
    watching=True,
)
IN_IPVS = Artefacts(
    device=True, addresses=3, sets=("KUBE-CLUSTER-IP",), virtual_servers=3,
    rules=(Rules(backend="nft", family=4),),
)  # fmt: skip
IN_IPTABLES = Artefacts(rules=(Rules(backend="nft", family=4, service_jumps=9),))
SYNCED = Health(synced=(1.7e9, 1.7e9), started=NOW - 100.5)
OPEN = Answer(works=True)


def found_after(verb: Verb, at: Node, facts: Facts, aim: Aim) -> Sequence[Finding]:
    """Return the gates as they are for a node whose kube-proxy is a unit."""
    return Systemd().findings(verb, at, facts, aim)


def switched(changed: Mapping[Fact[Any], object] | None = None) -> Facts:
    """Return the facts of a node that is in ipvs mode as it should be, but for ``changed``."""
    values: dict[Fact[Any], object] = {
        RECORD: ARMED,
        EFFECTIVE: Effective(running=True, mode="ipvs", logged="ipvs"),
        artefacts.ARTEFACTS: IN_IPVS,
        HEALTH: SYNCED,
        SERVICE: RUNNING,
        gates.of_gate(0, Gate(kind="tcp", text="")): OPEN,
    }
    return of({**values, **(changed or {})})


def returned(**record: Any) -> Facts:
    back = replace(ARMED, state="back", armed_by="", watching=False, **record)
    effective = Effective(running=True, mode="iptables")
    return switched({RECORD: back, EFFECTIVE: effective, artefacts.ARTEFACTS: IN_IPTABLES})


def shut(verb: Verb, facts: Facts, aim: Aim = AIM) -> dict[str, str]:
    found = found_after(verb, node(), facts, aim)
    return {finding.name: finding.actual for finding in found if finding.status is Status.FAIL}


# --- all is well ----------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["switch", "linger", "clean", "soak"])
def test_a_node_that_is_as_it_should_be_opens_every_gate(verb: Verb) -> None:
    assert shut(verb, switched()) == {}


def test_a_node_that_is_back_opens_every_gate_of_the_old_mode() -> None:
    assert shut("back", returned()) == {}


def test_a_node_that_kept_nothing_is_judged_by_the_mode_it_is_in() -> None:
    facts = switched({RECORD: Record(process="b 1 10")})
    assert shut("back", facts) == {}


def test_opened_means_that_no_gate_is_shut() -> None:
    findings = found_after("switch", node(), switched(), AIM)
    assert gates.opened(findings)
    assert gates.opened([Finding(topic="", name="", status=Status.WARN)])
    assert not gates.opened([*findings, Finding(topic="", name="", status=Status.FAIL)])


# --- one thing is wrong ---------------------------------------------------------------------

SHUT: Mapping[str, tuple[Callable[[], Facts], str, str]] = {
    "the old process": (
        lambda: switched({RECORD: replace(ARMED, process="b 1 10")}),
        "new process",
        "still the old one",
    ),
    "not armed": (
        lambda: switched({RECORD: replace(ARMED, armed_by="")}),
        "dead man's switch",
        "not armed",
    ),
    "armed by another roll": (
        lambda: switched({RECORD: replace(ARMED, armed_by="another")}),
        "dead man's switch",
        "not armed",
    ),
    "armed and nobody watches": (
        lambda: switched({RECORD: replace(ARMED, watching=False)}),
        "dead man's switch",
        "not armed",
    ),
    "it went back by itself": (
        lambda: switched({RECORD: replace(ARMED, state="back")}),
        "way back",
        "by itself",
    ),
    "the silent fallback": (
        lambda: switched({EFFECTIVE: Effective(running=True, mode="iptables")}),
        "proxy mode",
        "iptables",
    ),
    "the log says another mode": (
        lambda: switched({EFFECTIVE: Effective(running=True, mode="ipvs", logged="iptables")}),
        "proxy mode",
        "its log says iptables",
    ),
    "no mode is told": (
        lambda: switched({EFFECTIVE: Effective(running=True)}),
        "proxy mode",
        "no answer",
    ),
    "the reason is told": (
        lambda: switched(
            {EFFECTIVE: Effective(running=True, mode="iptables", complaints=("no ipset",))}
        ),
        "proxy mode",
        "iptables: no ipset",
    ),
    "kube-proxy died": (
        lambda: switched({SERVICE: replace(RUNNING, active="failed", pid=0, started=None)}),
        "kube-proxy",
        "failed",
    ),
    "another process answers": (
        lambda: switched({HEALTH: replace(SYNCED, started=NOW - 9000.0)}),
        "kube-proxy",
        "another process",
    ),
    "no sync at all": (
        lambda: switched({HEALTH: replace(SYNCED, synced=(0.0, 0.0))}),
        "first sync",
        "not yet",
    ),
    "one family has not synced": (
        lambda: switched({HEALTH: replace(SYNCED, synced=(1.7e9, 0.0))}),
        "first sync",
        "not yet",
    ),
    "nothing answers": (lambda: switched({HEALTH: Health()}), "first sync", "no answer"),
    "no device": (
        lambda: switched({artefacts.ARTEFACTS: replace(IN_IPVS, device=False)}),
        "kube-ipvs0",
        "none",
    ),
    "no virtual server": (
        lambda: switched({artefacts.ARTEFACTS: replace(IN_IPVS, virtual_servers=0)}),
        "virtual servers",
        "none",
    ),
    "the cluster's own service": (
        lambda: switched(
            {gates.of_gate(0, Gate(kind="tcp", text="")): Answer(works=False, said="refused")}
        ),
        "gate kubernetes 10.254.0.1:443",
        "refused",
    ),
}


@pytest.mark.parametrize("wrong", SHUT)
@pytest.mark.parametrize("verb", ["switch", "linger", "clean", "soak"])
def test_one_thing_that_is_wrong_shuts_just_its_gate(wrong: str, verb: Verb) -> None:
    facts, name, actual = SHUT[wrong]
    told = shut(verb, facts())
    assert told.keys() == {name}
    assert actual in told[name]


def test_a_gate_that_is_shut_says_what_to_type() -> None:
    facts = switched({HEALTH: replace(SYNCED, started=NOW - 9000.0)})
    (finding,) = [f for f in found_after("switch", node(), facts, AIM) if f.status == "fail"]
    assert finding.hint == "ss -ltnp 'sport = :10249'"


def test_what_the_old_mode_left_counts_only_once_it_was_removed() -> None:
    rules = Rules(backend="nft", family=4, service_jumps=9, service_chains=9)
    facts = switched({artefacts.ARTEFACTS: replace(IN_IPVS, rules=(rules,))})
    assert shut("switch", facts) == {}
    assert shut("linger", facts) == {}
    assert shut("clean", facts).keys() == {"left of iptables"}
    assert shut("soak", facts).keys() == {"left of iptables"}


@pytest.mark.parametrize("verb", ["switch", "clean"])
def test_a_process_that_does_not_say_when_it_began_is_believed(verb: Verb) -> None:
    assert shut(verb, switched({HEALTH: replace(SYNCED, started=None)})) == {}


# --- the way back and the end ---------------------------------------------------------------


@pytest.mark.parametrize("state", ["kept", "armed", "back-began", "back-failed", "settled"])
def test_a_node_that_did_not_come_to_the_end_of_its_way_back_is_not_back(state: str) -> None:
    facts = returned()
    record = replace(facts[RECORD], state=state)
    assert shut("back", Facts({**facts.values, RECORD.name: record})) == {"way back": state}


def test_files_that_are_not_as_before_are_named() -> None:
    assert shut("back", returned(wrong=("/etc/a", "/etc/b"))) == {
        "files": "not as before: /etc/a, /etc/b"
    }


def test_a_bridge_that_still_stands_after_the_way_back_shuts_a_gate() -> None:
    facts = returned()
    bridged = replace(IN_IPTABLES, tables=("ip nodeprep-bridge",))
    changed = Facts({**facts.values, artefacts.ARTEFACTS.name: bridged})
    assert shut("back", changed).keys() == {"bridge"}


@pytest.mark.parametrize(
    ("state", "watching", "right"),
    [
        ("settled", False, True),
        ("", False, True),
        ("settled", True, False),
        ("armed", False, False),
        ("back", False, False),
    ],
)
def test_a_settled_node_is_disarmed(state: str, watching: bool, right: bool) -> None:
    facts = Facts({RECORD.name: Record(state=state, watching=watching)})
    assert bool(shut("settle", facts)) != right


def test_a_roll_that_takes_another_back_wants_that_ones_files() -> None:
    aim = replace(AIM, restores="earlier")
    question = way_back.restored("earlier")
    assert shut("switch", switched({question: Record()}), aim) == {}
    told = shut("switch", switched({question: Record(wrong=("/etc/a",))}), aim)
    assert told == {"files": "not as before earlier: /etc/a"}


# --- what is asked --------------------------------------------------------------------------


def test_the_clusters_own_service_is_asked_first_and_local_commands_never() -> None:
    given = (Gate(kind="local", text="x"), Gate(kind="command", text="y"))
    asked = gates.asked(replace(AIM, kubernetes="[fd00::1]:443", gates=given))
    assert [(gate.kind, gate.host, gate.port) for gate in asked] == [
        ("tcp", "fd00::1", 443),
        ("command", "", 0),
    ]
    assert gates.asked(replace(AIM, kubernetes="")) == ()


def test_every_fact_that_is_judged_is_asked_for() -> None:
    watch = gates.watch(replace(AIM, restores="earlier", gates=(Gate(kind="command", text="y"),)))
    assert [fact.name for fact in watch.FACTS] == [
        "rollout.record",
        "rollout.restored",
        "rollout.artefacts",
        "rollout.health",
        "rollout.gate.0",
        "rollout.gate.1",
    ]
    assert watch.paths(node()) == ()


def test_a_local_gate_tells_what_its_command_said() -> None:
    gate = Gate(kind="local", text="curl it")
    found = gates.local(gate, works=False, said="no route")
    assert (found.name, found.status, found.actual) == ("gate curl it", Status.FAIL, "no route")
    assert gates.local(gate, works=True, said="").status is Status.OK


@pytest.mark.parametrize(
    ("command", "works", "said"),
    [
        ("echo fine", True, "fine"),
        ("echo bad >&2; false", False, "bad"),
        (":", True, ""),
        ("printf '%2000s' x", True, ""),
    ],
)
def test_a_gate_answers_in_few_words(shell: str, command: str, works: bool, said: str) -> None:
    question = gates.of_gate(0, Gate(kind="command", text=command))
    text = output(shell, Script(TCP_OPEN, question.script(node()), "\n")).decode()
    assert len(text) < 600
    assert question.parse(text) == Answer(works=works, said=said)


def test_health_is_read_from_the_metrics_of_any_release(shell: str) -> None:
    metrics = (
        "# HELP kubeproxy_sync_proxy_rules_last_timestamp_seconds x\n"
        'kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 1.7e+09\n'
        'kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv6"} 0\n'
        "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds 1.8e+09\n"
        "process_start_time_seconds 1.6e+09\n"
    )
    fake = f"http_get() {{ cat <<'END'\n{metrics}END\n}}\n"
    text = output(shell, Script(fake, HEALTH.script(node()), "\n")).decode()
    assert HEALTH.parse(text) == Health(synced=(1.7e9, 0.0), started=1.6e9)
    old = fake.replace('{ip_family="IPv4"}', "").replace("process_start", "x")
    assert HEALTH.parse(output(shell, Script(old, HEALTH.script(node()), "\n")).decode()) == Health(
        synced=(1.7e9, 0.0)
    )


def test_where_nothing_answers_there_is_no_health() -> None:
    assert HEALTH.parse("") == Health()


@given(st.text())
def test_no_answer_makes_a_parser_do_more_than_refuse_it(text: str) -> None:
    for parse in (gates.parse_health, gates.parse_answer, way_back.parse_record):
        try:
            parse(text)
        except (ValueError, LookupError, FactError):
            continue


def test_every_verb_has_gates() -> None:
    facts = switched()
    assert all(found_after(verb, node(), facts, AIM) for verb in VERBS)
