"""Plan and verify tell one difference twice, so they cannot disagree, whatever a node is like."""

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from nodeprep import plan, verify
from nodeprep.iptables import BACKENDS
from nodeprep.model import (
    MODES,
    BypassRule,
    Change,
    Facts,
    FileState,
    Finding,
    Firewall,
    IpSet,
    Node,
    Status,
    Sysctl,
)
from nodeprep.releases import Version
from nodeprep.shell import Secret
from nodeprep.story import STORY, Topic
from nodeprep.systemd import Service
from nodeprep.topics.bypass_rules import PLACING, RECORD, SEEN, WATCHING, Seen
from nodeprep.topics.ipsets import SETS, Sets
from nodeprep.topics.kube_proxy import BINARY, SERVICE, Binary
from tests import facts
from tests.topics import INSTALLED, NOW, RUNNING, node, of

APPLY = "nodeprep apply"
RECORDED: Mapping[str, list[Any]] = {
    fact.name: [facts.read(fact, system) for system in facts.systems(fact.name)]
    for topic in STORY
    for fact in topic.FACTS
}
SYSCTLS = (
    Sysctl(key="net.ipv4.ip_forward", value="0"),
    Sysctl(key="net.bridge.bridge-nf-call-iptables", value="0", bound="at_least"),
    Sysctl(key="net.netfilter.nf_conntrack_max", value="131072", bound="at_least"),
)


MYSET = IpSet(name="myset", entries=("192.168.1.1", "192.168.2.226"))
NETS = IpSet(name="nets", type="hash:net", family="inet6", timeout=300, entries=("fd00::/64",))
RULES = (
    BypassRule(set="myset", comment="myset"),
    BypassRule(set="myset", comment="myset", chain="NOWHERE", target="ACCEPT"),
    BypassRule(set="nets", comment="my nets", family=6, position="last"),
)
PORTS = st.sampled_from([None, "30000-32767", "1-2"])


@st.composite
def nodes(draw: st.DrawFn) -> Node:
    """Draw a node of any desired state."""
    return node(
        modules=tuple(draw(st.sets(st.sampled_from(["xt_set", "dummy", "ip-vs-lc"])))),
        sysctls=tuple(draw(st.sets(st.sampled_from(SYSCTLS)))),
        packages=tuple(draw(st.sets(st.sampled_from(["ipset", "socat"])))),
        ipsets=draw(st.none() | st.lists(st.sampled_from([MYSET, NETS]), unique=True).map(tuple)),
        bypass_rules=draw(st.none() | st.lists(st.sampled_from(RULES), unique=True).map(tuple)),
        adopt=draw(st.booleans()),
        opens=draw(
            st.builds(Firewall, open=st.booleans(), node_ports=PORTS, health_check=st.booleans())
        ),
        cluster_cidr=draw(st.sampled_from([None, "10.244.0.0/16", "10.244.0.0/16,fd00::/64"])),
        mode=draw(st.sampled_from(MODES)),
        style=draw(st.sampled_from(["config", "flags", "unmanaged"])),
        run=draw(st.sampled_from(["if-present", "required", "never"])),
        scheduler=draw(st.sampled_from(["rr", "lc"])),
        kubeconfig_content=draw(st.none() | st.just(Secret("kind: Config\n"))),
    )


def binaries() -> st.SearchStrategy[Binary]:
    releases = st.none() | st.builds(Version, st.just(1), st.integers(14, 40))
    times = st.sampled_from([0, NOW - 50, NOW + 50])
    return st.builds(Binary, present=st.booleans(), version=releases, mtime=times)


def services() -> st.SearchStrategy[Service]:
    return st.builds(
        dataclasses.replace,
        st.just(RUNNING),
        load=st.sampled_from(["", "loaded", "masked", "bad-setting"]),
        active=st.sampled_from(["active", "inactive", "failed", "activating"]),
        enabled=st.sampled_from(["enabled", "disabled", "static", "masked"]),
        needs_reload=st.booleans(),
        started=st.none() | st.just(NOW - 100),
        fragment=st.sampled_from(["", "/etc/systemd/system/kube-proxy.service", "/run/x.service"]),
    )


def sets() -> st.SearchStrategy[Sets]:
    """Draw recorded sets, with anything about each of them that may be another."""
    recorded: list[Sets] = RECORDED[SETS.name]
    known = [each for seen in recorded for each in seen.there.values()]
    changed = st.builds(
        dataclasses.replace,
        st.sampled_from(known),
        digest=st.sampled_from(["0", *(each.digest for each in known)]),
        more=st.integers(0, 1),
        our_rules=st.integers(0, 3),
    )
    there = st.lists(changed, max_size=3).map(
        lambda some: {each.listed.name: each for each in some}
    )
    names = st.frozensets(st.sampled_from(["myset", "nets", "older"]))
    units = st.sampled_from([None, "", "enabled", "disabled", "masked"])
    return st.builds(Sets, there=there, ours=names, unit=units)


def chains() -> st.SearchStrategy[Seen]:
    """Draw recorded chains, in any backend, with units in any state."""
    recorded: list[Seen] = RECORDED[SEEN.name]
    known = [chain for seen in recorded for chain in seen.chains]
    state = st.sampled_from(["", "enabled", "disabled", "masked"])
    none: dict[str, str] = {}
    units = st.just(none) | st.fixed_dictionaries({PLACING: state, WATCHING: state})
    return st.builds(
        Seen,
        own=st.sampled_from([None, *BACKENDS]),
        chains=st.lists(st.sampled_from(known), unique=True).map(tuple),
        units=units,
        watching=st.booleans(),
        foreign_sets=st.sampled_from([(), ("myset",)]),
    )


VALUES = st.fixed_dictionaries(
    {name: st.sampled_from(values) for name, values in RECORDED.items()}
    | {
        BINARY.name: st.sampled_from([*RECORDED[BINARY.name], INSTALLED]) | binaries(),
        SERVICE.name: st.sampled_from([*RECORDED[SERVICE.name], RUNNING]) | services(),
        SETS.name: st.sampled_from(RECORDED[SETS.name]) | sets(),
        SEEN.name: st.sampled_from(RECORDED[SEEN.name]) | chains(),
    }
)


def right(change: Change) -> FileState:
    """Return the state of a file after the change that puts it in place."""
    assert change.guard
    _, path, mode, digest, content, *_ = shlex.split(change.action.reveal())
    return FileState(
        path=path,
        kind="regular",
        mode=int(mode, 8),
        digest=digest,
        content=content.encode() if path == RECORD else None,
        mtime=NOW - 5000,
        real_parent=path.rpartition("/")[0],
        ours=True,
    )


WRONG: tuple[Mapping[str, Any], ...] = (
    {},
    {"mode": 0o666},
    {"mtime": NOW - 50},
    {"digest": "0" * 64},
    {"digest": "0" * 64, "ours": False},
    {"kind": "symlink", "digest": ""},
    {"links": 2},
    {"writable": False},
    {"real_parent": "/elsewhere"},
    {"kind": "absent", "digest": "", "ours": False, "mode": 0},
)


def states(wanted: Node, values: Mapping[str, object]) -> st.SearchStrategy[list[FileState]]:
    """Draw what stands at the paths of a node: what should, or that with something wrong."""
    fresh = Facts(values)
    places = [change for topic in STORY for change in topic.changes(wanted, fresh) if change.guard]
    return st.tuples(*map(state, map(right, places))).map(list)


def state(good: FileState) -> st.SearchStrategy[FileState]:
    return st.sampled_from([dataclasses.replace(good, **wrong) for wrong in WRONG])


@st.composite
def found(draw: st.DrawFn, wanted: Node) -> Facts:
    """Draw facts of a node: recorded values of any systems, and files of any state."""
    values = draw(VALUES)
    return Facts(values, {each.path: each for each in draw(states(wanted, values))})


def fails(findings: tuple[Finding, ...]) -> list[Finding]:
    return [finding for finding in findings if finding.status is Status.FAIL]


def agree(topic: Topic, wanted: Node, seen: Facts) -> None:
    changes, failed = topic.changes(wanted, seen), fails(topic.findings(wanted, seen))
    applicable = [finding for finding in failed if finding.hint == APPLY]
    event(f"{topic.NAME}: {bool(changes)} changes, {bool(failed)} failed")
    assert failed or not changes, "a change that nothing asks for"
    assert changes or not applicable, "apply is the remedy, and has nothing to do"
    assert {change.topic for change in changes} <= {topic.NAME}
    assert {finding.topic for finding in failed} <= {topic.NAME}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_plan_and_verify_agree_on_every_topic_of_every_node(data: st.DataObject) -> None:
    wanted = data.draw(nodes())
    seen = data.draw(found(wanted))
    for topic in STORY:
        agree(topic, wanted, seen)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_asking_twice_gives_the_same_answer(data: st.DataObject) -> None:
    wanted = data.draw(nodes())
    seen = data.draw(found(wanted))
    for topic in STORY:
        assert topic.changes(wanted, seen) == topic.changes(wanted, seen)
        assert topic.findings(wanted, seen) == topic.findings(wanted, seen)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_every_failed_check_says_what_to_type(data: st.DataObject) -> None:
    wanted = data.draw(nodes())
    seen = data.draw(found(wanted))
    for topic in STORY:
        assert all(finding.hint for finding in fails(topic.findings(wanted, seen)))


def withheld(wanted: Node, facts: Facts) -> tuple[Change, ...]:
    return plan.withheld(wanted, facts, [(t, t.findings(wanted, facts)) for t in STORY])


def test_a_serving_kube_proxy_waits_while_its_node_lacks_what_the_mode_needs() -> None:
    wanted = node(modules=("no_such_module",))
    serving = of({SERVICE: RUNNING, BINARY: INSTALLED})
    waiting = withheld(wanted, serving)
    assert waiting
    assert {change.topic for change in waiting} == {"kube_proxy"}
    assert not any(c.topic == "kube_proxy" for c in plan.changes(wanted, serving, STORY))
    told = [f for f in verify.findings(wanted, serving, STORY) if f.name == "withheld"]
    assert [f.status for f in told] == [Status.FAIL]


def test_where_kube_proxy_does_not_run_or_the_node_lacks_nothing_no_step_waits() -> None:
    stopped = dataclasses.replace(RUNNING, active="inactive", pid=0, started=None)
    lacking = node(modules=("no_such_module",))
    assert withheld(lacking, of({SERVICE: stopped, BINARY: INSTALLED})) == ()
    serving = of({SERVICE: RUNNING, BINARY: INSTALLED})
    assert withheld(node(), serving) == ()
    assert any(change.disruptive for change in plan.changes(node(), serving, STORY))
