"""An aim survives the journal of its roll."""

import json

from hypothesis import given
from hypothesis import strategies as st

from nodeprep.rollout.operator import Gate, TcpTarget
from nodeprep.rollout.switching import Aim, from_fields, to_fields
from nodeprep.rollout.systemd import Systemd

GATES = st.builds(
    Gate,
    kind=st.sampled_from(["tcp", "http", "command", "local"]),
    text=st.text(),
    host=st.text(),
    port=st.integers(0, 65535),
    path=st.text(),
)
AIMS = st.builds(
    Aim,
    run=st.text(),
    to=st.sampled_from(["iptables", "ipvs", "nftables"]),
    restores=st.text(),
    soak=st.integers(0),
    kubernetes=st.text(),
    gates=st.lists(GATES, max_size=3).map(tuple),
    probe=st.none() | st.builds(TcpTarget, st.text(), st.integers(1, 65535)),
    restore_foreign_ipvs=st.booleans(),
)


@given(AIMS)
def test_an_aim_is_the_same_after_it_was_written_down(aim: Aim) -> None:
    assert from_fields(json.loads(json.dumps(to_fields(aim)))) == aim


def test_a_systemd_unit_has_all_that_the_contract_wants() -> None:
    assert {"topics", "changes", "findings", "pending"} <= set(dir(Systemd()))
