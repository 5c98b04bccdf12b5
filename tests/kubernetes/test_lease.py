"""The lock in the cluster is somebody's until it is given back, however long that is."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from nodeprep.kubernetes import lease
from nodeprep.kubernetes.view import Lease, Object
from tests.kubernetes import samples

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def seen(document: Object) -> Lease:
    found = samples.view(objects=[samples.stored(document)]).lease
    assert found is not None
    return found


def test_a_new_one_names_its_holder_and_its_run() -> None:
    document = lease.new("ann@host", "run-1", NOW.astimezone(timezone(timedelta(hours=2))))
    assert document["spec"] == {
        "holderIdentity": "ann@host",
        "acquireTime": "2026-01-02T03:04:05.678901Z",
        "renewTime": "2026-01-02T03:04:05.678901Z",
    }
    held = seen(document)
    assert (held.holder, held.run, held.renewed) == ("ann@host", "run-1", NOW.timestamp())


def test_it_is_a_runs_not_a_persons() -> None:
    held = seen(lease.new("ann@host", "run-1", NOW))
    assert lease.standing(None, "run-1") == "free"
    assert lease.standing(held, "run-1") == "ours"
    assert lease.standing(held, "run-2") == "other"


def test_time_alone_frees_none() -> None:
    old = seen(lease.new("ann@host", "run-1", NOW - timedelta(days=999)))
    assert lease.standing(old, "run-2") == "other"
    with pytest.raises(ValueError, match="ann@host's, for the run run-1"):
        lease.taken(old, "bob@host", "run-2", NOW)


def test_one_that_was_emptied_is_free_and_is_taken_as_it_was_seen() -> None:
    document = lease.new("ann@host", "run-1", NOW)
    document["spec"] = {"leaseTransitions": 3}
    document["metadata"]["annotations"] = {"note": "mine"}
    free = seen(document)
    assert lease.standing(free, "run-2") == "free"
    taken = lease.taken(free, "bob@host", "run-2", NOW)
    assert taken["metadata"]["resourceVersion"] == "4711"
    assert taken["metadata"]["annotations"] == {"note": "mine", "nodeprep.io/run": "run-2"}
    assert taken["spec"]["leaseTransitions"] == 3
    assert lease.standing(seen(taken), "run-2") == "ours"


def test_who_has_it_is_told_with_the_time() -> None:
    held = seen(lease.new("ann@host", "run-1", NOW))
    assert lease.told(held) == "ann@host for the run run-1, since 2026-01-02T03:04:05.678901Z"
