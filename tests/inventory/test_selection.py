"""``--limit``: which nodes its terms choose, and what is said about a slip of the pen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeprep.errors import UsageError
from nodeprep.inventory import select
from nodeprep.model import Node

NODES = (
    *(
        Node(name=f"worker{n}", address="a", groups=("workers",), labels={"role": "worker"})
        for n in range(1, 6)
    ),
    Node(name="gateway1", address="a", groups=("workers", "gateways"), labels={"role": "edge"}),
    Node(name="db.example.com", address="a", labels={"example.com/role": "db", "empty": ""}),
)


@pytest.mark.parametrize(
    ("limit", "names"),
    [
        ("worker1", "worker1"),
        ("worker2,worker1,worker2", "worker1 worker2"),
        ("worker[1-2,4]", "worker1 worker2 worker4"),
        ("worker[4-9]", "worker4 worker5"),
        ("worker*", "worker1 worker2 worker3 worker4 worker5"),
        ("*way?", "gateway1"),
        ("wor*[1-2]", "worker1 worker2"),
        ("db.*", "db.example.com"),
        ("@gateways", "gateway1"),
        ("role=edge", "gateway1"),
        ("example.com/role=db", "db.example.com"),
        ("empty=", "db.example.com"),
        ("!@workers", "db.example.com"),
        ("@workers,!worker[1-4]", "worker5 gateway1"),
        ("!worker[1-4],@workers", "worker5 gateway1"),
        ("!worker*,!role=edge", "db.example.com"),
        (" worker1 , worker2", "worker1 worker2"),
    ],
)
def test_a_limit_chooses_nodes_in_the_order_of_the_inventory(limit: str, names: str) -> None:
    assert [node.name for node in select(NODES, limit)] == names.split()


@pytest.mark.parametrize(
    ("limit", "said", "hint"),
    [
        ("workr1", "`workr1` matches no node", "did you mean `worker1`"),
        ("worker1,@gateway", "`@gateway` matches no node", "did you mean `@gateways`?"),
        ("role=edgy", "`role=edgy` matches no node", "did you mean `role=edge`"),
        ("worker1,!worker9", "`worker9` matches no node", "did you mean `worker"),
        ("x[1-3]", "`x[1-3]` matches no node", "write names"),
        ("d.*", "`d.*` matches no node", "write names"),
        ("worker[1-", "is not closed", ""),
        ("", "has an empty term", "write names"),
        ("worker1,", "has an empty term", "write names"),
        ("!", "has an empty term", "write names"),
        ("worker1,!worker1", "leaves no node", ""),
        ("\x1b[31m", r"\x1b", ""),
    ],
)
def test_a_limit_that_cannot_be_meant_is_refused(limit: str, said: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        select(NODES, limit)
    assert said in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.message.isprintable()


@given(st.text(max_size=30))
def test_any_limit_chooses_some_nodes_or_is_refused(limit: str) -> None:
    assert chosen_or_told(limit).isprintable()


def chosen_or_told(limit: str) -> str:
    try:
        return ",".join(node.name for node in select(NODES, limit))
    except UsageError as error:
        return error.message + error.hint
