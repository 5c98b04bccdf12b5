"""The mode that a kube-proxy says it took, from its log, in the words of every release.

The words: kubernetes cmd/kube-proxy/app/server_others.go (1.14 to 1.30), server_linux.go after.
Lines may be klog's or JSON, and each may begin with what the container runtime adds.
"""

import json
import re
from dataclasses import dataclass, replace

PATTERN = (
    "using (iptables|ipvs|nftables|userspace) proxier|proxier, trying|assuming iptables"
    "|can.t (use|determine whether to use).*prox"
)
"""What `grep -iE` picks the lines by that :func:`read` understands."""

_TAKEN = re.compile(r"Using (iptables|ipvs|nftables|userspace) Proxier", re.IGNORECASE)
_NOT_SET = re.compile(
    r'Flag proxy-mode=\\?"(?P<flag>[^"\\]*)\\?" unknown, assuming iptables'
    r'|Unknown proxy mode \\?"(?P<old>[^"\\]*)\\?", assuming iptables'
    r"|Unknown proxy mode, assuming iptables"
)
_FELL_BACK = re.compile(
    r"Can't use (?P<from>ipvs|iptables|nftables) proxier, trying (?P<to>\w+) proxier",
    re.IGNORECASE,
)
_REASON = re.compile(
    r"can't determine whether to use ipvs proxy|can't use the (?:ipvs|iptables|nftables) proxier",
    re.IGNORECASE,
)
_WHY = (
    re.compile(r"(?:, error|proxier): (?P<why>.+)$", re.IGNORECASE),
    re.compile(r"\\?\"?err\\?\"?[=:]\s*(?P<why>.+)$", re.IGNORECASE),
)


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a kube-proxy said of its mode: empty where it has said nothing of it.

    ``fell_back`` tells that it wanted another one, which is in ``wanted`` where it is named;
    ``why`` has its reason. A kube-proxy of 1.26 or later does not fall back but exits: then there
    is a reason and no mode. ``not_set`` tells that it was given no mode it knew.
    """

    mode: str = ""
    wanted: str = ""
    fell_back: bool = False
    not_set: bool = False
    why: str = ""


def read(text: str) -> Said:
    r"""Return what the last start in a log says.

    >>> read('I0102 03:04:05.678901       1 server_others.go:259] Using ipvs Proxier.\n').mode
    'ipvs'
    """
    said = Said()
    begun = False
    for line in map(_plain, text.splitlines()):
        taken, fell, reason = (each.search(line) for each in (_TAKEN, _FELL_BACK, _REASON))
        not_set = _NOT_SET.search(line)
        # A log of several starts: what was said before the last of them counts no more.
        if (fell or reason or not_set) and begun:
            said, begun = Said(), False
        if reason:
            said = replace(said, fell_back=True, why=_why(line), wanted=said.wanted or _named(line))
        if fell:
            said = replace(said, fell_back=True, wanted=fell["from"].lower())
        if not_set:
            said = replace(said, not_set=True)
        if taken:
            if begun:
                said = Said()
            said, begun = replace(said, mode=taken[1].lower()), True
    return said


def _plain(line: str) -> str:
    """Return the message of a line of JSON, of Docker's driver or of kube-proxy's own; else it."""
    _, brace, rest = line.partition("{")
    try:
        fields = json.loads(brace + rest) if brace else None
    except ValueError:
        return line
    if not isinstance(fields, dict):
        return line
    if "log" in fields:
        return _plain(str(fields["log"]).rstrip("\n"))
    error = f' err="{fields["err"]}"' if "err" in fields else ""
    return f"{fields.get('msg', line)}{error}"


def _named(line: str) -> str:
    named = re.search(r"\b(ipvs|iptables|nftables) prox", line, re.IGNORECASE)
    return named[1].lower() if named else ""


def _why(line: str) -> str:
    found = next((match for each in _WHY if (match := each.search(line))), None)
    why = found["why"] if found else line
    return why.strip().strip('"}').replace('\\"', '"')
