"""The lock of a roll in the cluster: a Lease that says who has it, and for which run.

It is no leader's election: a holder that is silent may still have nodes in hand. So time alone
never frees it; ``renewTime`` is only what a person reads before taking it away by hand.
"""

import copy
from datetime import UTC, datetime
from typing import Any, Literal

from nodeprep.kubernetes.kubectl import NAMESPACE
from nodeprep.kubernetes.view import LEASE, RUN, Lease, Object

Standing = Literal["free", "ours", "other"]


def standing(lease: Lease | None, run: str) -> Standing:
    """Tell whose the lock is, as seen by the run of id ``run``.

    One that names neither a holder nor a run is free: a person may have emptied it.
    """
    if lease is None or not (lease.holder or lease.run):
        return "free"
    return "ours" if lease.run == run else "other"


def new(holder: str, run: str, now: datetime) -> Object:
    """Return the Lease to create; creating it fails where there is one already."""
    written = _time(now)
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": LEASE,
            "namespace": NAMESPACE,
            "labels": {"app.kubernetes.io/managed-by": "nodeprep"},
            "annotations": {RUN: run},
        },
        "spec": {"holderIdentity": holder, "acquireTime": written, "renewTime": written},
    }


def taken(lease: Lease, holder: str, run: str, now: datetime) -> Object:
    """Return a Lease that is there as that of ``run``, to replace it as it was seen.

    That is for one that is free, and for the run's own after its controller was away.
    Raises ValueError where it is another run's.
    """
    if standing(lease, run) == "other":
        raise ValueError(f"the lease is {lease.holder}'s, for the run {lease.run}")
    wanted = new(holder, run, now)
    raw: dict[str, Any] = copy.deepcopy(lease.raw)
    metadata = raw.setdefault("metadata", {})
    for key in ("labels", "annotations"):
        metadata[key] = {**(metadata.get(key) or {}), **wanted["metadata"][key]}
    raw["spec"] = {**(raw.get("spec") or {}), **wanted["spec"]}
    return raw


def told(lease: Lease) -> str:
    """Return in words who has the lock."""
    since = f", since {lease.raw['spec']['renewTime']}" if lease.renewed else ""
    return f"{lease.holder or 'nobody'} for the run {lease.run or 'of no name'}{since}"


def _time(moment: datetime) -> str:
    # MicroTime of the API wants exactly six digits after the point.
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
