"""The kernel's ipsets: their types, and what ``ipset list -t`` tells of one; see ipset(8).

A set is known by its name alone: the kernel keeps no mark that says who made it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from nodeprep.model import IpSet

Part = Literal["ip", "net", "port", "mac", "iface"]

TYPES: Mapping[str, tuple[Part, ...]] = {
    "hash:ip": ("ip",),
    "hash:net": ("net",),
    "hash:mac": ("mac",),
    "hash:ip,mac": ("ip", "mac"),
    "hash:ip,port": ("ip", "port"),
    "hash:net,port": ("net", "port"),
    "hash:net,iface": ("net", "iface"),
    "hash:net,net": ("net", "net"),
    "hash:ip,port,ip": ("ip", "port", "ip"),
    "hash:ip,port,net": ("ip", "port", "net"),
}
"""The types that an inventory may name, each with the parts of its entries."""

NAME_BYTES = 31
"""The longest name of a set that the kernel takes (IPSET_MAXNAMELEN, less its final NUL)."""

LOADING = "NODEPREP-LOADING"
"""The set that is filled, and then changes places with the one it stands for."""

RESERVED = ("KUBE-", "NPREP-", "NODEPREP-")
"""How names begin that no inventory may take: kube-proxy's, and those that pass by."""

_KNOWN = ("family", "hashsize", "maxelem", "timeout", "bucketsize", "initval")
_FLAGS = ("counters", "comment", "skbinfo", "forceadd")


def parameters(ipset: IpSet) -> str:
    """Return the words that create a set, behind its name.

    >>> parameters(IpSet(name="a", timeout=300))
    'hash:ip family inet maxelem 65536 timeout 300'
    """
    words = [
        ipset.type,
        f"family {ipset.family}" if ipset.family else "",
        f"hashsize {ipset.hashsize}" if ipset.hashsize else "",
        f"maxelem {ipset.maxelem}",
        f"timeout {ipset.timeout}" if ipset.timeout is not None else "",
    ]
    return " ".join(filter(None, words))


def added(ipset: IpSet, entry: str) -> str:
    """Return the words that add ``entry``, behind the set's name: it never expires.

    >>> added(IpSet(name="a", type="hash:net", timeout=9), "10.0.0.0/8 nomatch")
    '10.0.0.0/8 timeout 0 nomatch'
    """
    if ipset.timeout is None:
        return entry
    element, _, flag = entry.partition(" ")
    return " ".join(filter(None, (element, "timeout 0", flag)))


# --- what is there --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A set in the kernel. ``parameters`` are those of its header, flags with an empty value.

    ``references`` counts the rules and sets that refer to it.
    """

    name: str
    type: str
    references: int
    parameters: Mapping[str, str]


def parse_header(text: str) -> Listed:
    r"""Read what ``ipset list -t NAME`` prints.

    >>> parse_header("Name: a\nType: hash:mac\nHeader: hashsize 64 maxelem 9\nReferences: 2\n")
    Listed(name='a', type='hash:mac', references=2, parameters={'hashsize': '64', 'maxelem': '9'})
    """
    fields = dict(re.findall(r"^([A-Z][a-z ]+): (.*)$", text, re.MULTILINE))
    return Listed(
        name=fields["Name"],
        type=fields["Type"],
        references=int(fields["References"]),
        parameters=_pairs(fields["Header"].split()),
    )


def _pairs(words: list[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        found[word] = "" if word in _FLAGS else next(rest, "")
    return found


def is_other_kind(ipset: IpSet, listed: Listed) -> bool:
    """Tell whether two sets cannot change places: the kernel wants one type and one family."""
    family = listed.parameters.get("family", "")
    return (ipset.type, ipset.family) != (listed.type, family)


def differences(ipset: IpSet, listed: Listed) -> tuple[str, ...]:
    """Return what of a set's parameters is not as wanted, as ``maxelem 9``; entries aside.

    The kernel makes ``hashsize`` larger as a set grows: only a smaller one is wrong.
    """
    there = listed.parameters
    wrong = [word for word in there if word not in _KNOWN]
    if there.get("maxelem") != str(ipset.maxelem):
        wrong.append("maxelem")
    if there.get("timeout", "") != ("" if ipset.timeout is None else str(ipset.timeout)):
        wrong.append("timeout")
    if ipset.hashsize and int(there.get("hashsize") or 0) < ipset.hashsize:
        wrong.append("hashsize")
    return tuple(f"{word} {there.get(word, 'none')}".strip() for word in wrong)
