"""Paths, labels, kernel settings, packages and kube-proxy's words: an allow-list for each."""

import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, cast

from pydantic import AfterValidator, ValidationInfo

from nodeprep.inventory.allowed import Hint, Matching, Surroundings
from nodeprep.inventory.characters import shown
from nodeprep.ipset import NAME_BYTES, RESERVED

_NODE_PATH = r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._@+:-]+)+"
_ON_NODE = "an absolute path of letters, digits and `._@+:-`, without `..` or `//`"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_LABEL_PREFIX = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*"
_SYSCTL_PART = r"[A-Za-z0-9_:@-]+"
_DURATION = r"(?:[0-9]+(?:\.[0-9]+)?(?:ns|us|ms|s|m|h))+"
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}

NodePath = Annotated[str, Matching(_NODE_PATH, _ON_NODE, longest=1024)]
UnitPath = Annotated[
    str,
    Matching(rf"{_NODE_PATH}(?<=[^/]\.service)", f"{_ON_NODE}, ending in `.service`", longest=1024),
]
KubeconfigPath = Annotated[
    str,
    Matching(
        r"(?:~/)?[^-~\s'\"\x00-\x1f][^\x00-\x1f]*", "a path, such as /root/admin.conf", longest=1024
    ),
]
ContextName = Annotated[
    str,
    Matching(
        r"[A-Za-z0-9_][A-Za-z0-9_.@:/+-]*", "a context as `kubectl config get-contexts` shows"
    ),
]
GroupName = Annotated[
    str, Matching(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", "letters, digits, `.`, `_` and `-`", longest=64)
]
LabelKey = Annotated[
    str,
    Matching(
        rf"(?:(?=[^/]{{1,253}}/){_LABEL_PREFIX}/)?{_LABEL}",
        "a label key as in Kubernetes, such as `role` or `example.com/role`",
        longest=317,
    ),
]
LabelValue = Annotated[
    str,
    Matching(
        rf"(?:{_LABEL})?",
        "a label value as in Kubernetes: letters, digits, `-`, `_` and `.`",
        longest=63,
    ),
]
Module = Annotated[
    str,
    Matching(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}", "a module's name: letters, digits, `_` and `-`"),
]
Package = Annotated[
    str,
    Matching(
        r"[a-zA-Z0-9][a-zA-Z0-9.+_-]*", "a package's name: letters, digits, `.`, `+`, `_` and `-`"
    ),
]
SysctlKey = Annotated[
    str,
    Matching(
        rf"(?!-){_SYSCTL_PART}(?:[./]{_SYSCTL_PART})+",
        "a kernel setting such as net.ipv4.ip_forward",
    ),
]
SysctlText = Annotated[
    str,
    Matching(r"\S(?:.*\S)?", "one line of text, without spaces around it", longest=1024),
]
_RESERVED = "(?!" + "|".join(RESERVED) + ")"
SetName = Annotated[
    str,
    Matching(
        rf"{_RESERVED}[A-Za-z0-9_][A-Za-z0-9_.:-]*",
        "an ipset's name: letters, digits, `_`, `.`, `:` and `-`, not beginning with "
        + ", ".join(RESERVED),
        longest=NAME_BYTES,
    ),
]
SetEntry = Annotated[
    str,
    Matching(r"[A-Za-z0-9.:,/_@+-]+(?: nomatch)?", "an address, a network, or parts with commas"),
]
Chain = Annotated[
    str,
    Matching(
        rf"{_RESERVED}[A-Za-z0-9_][A-Za-z0-9_.:-]*",
        "an iptables chain that is neither kube-proxy's nor nodeprep's own",
        longest=28,
    ),
]
Directions = Annotated[
    str, Matching(r"(?:src|dst)(?:,(?:src|dst)){0,5}", "src or dst, one for each part: src,dst")
]
Comment = Annotated[
    str,
    Matching(
        r"(?!kubernetes )[A-Za-z0-9_](?:[A-Za-z0-9_.:/@+,=-]| (?=[A-Za-z0-9_]))*",
        "words of letters, digits and `._:/@+,=-`, other than kube-proxy's own",
        longest=128,
    ),
]
Scheduler = Annotated[
    str,
    Matching(
        "rr|wrr|lc|wlc|lblc|lblcr|sh|dh|sed|nq|mh|fo|ovf|twos",
        "an IPVS scheduler: rr, wrr, lc, wlc, lblc, lblcr, sh, dh, sed, nq, mh, fo, ovf or twos",
    ),
]
Version = Annotated[str, Matching(r"v?1\.[0-9]+(?:\.[0-9]+)?", "a version, such as '1.34'", 32)]
FeatureGate = Annotated[str, Matching(r"[A-Za-z][A-Za-z0-9]*", "letters and digits")]
Duration = Annotated[str, Matching(_DURATION, "a duration, such as 30s, 1m30s or 500ms", 32)]


@lru_cache(maxsize=64)  # ten thousand nodes have the same few
def seconds(duration: str) -> float:
    """Return the length of a :data:`Duration` in seconds."""
    parts = re.findall(r"([0-9.]+)([a-z]+)", duration)
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _controller_path(text: str, info: ValidationInfo) -> str:
    """Return an absolute path: ``~`` is the user's home, others begin at the inventory."""
    if not text or text.startswith(("-", " ")) or text.endswith(("/", " ")) or len(text) > LONGEST:
        raise ValueError(f"{shown(text)} is not the path of a file: begin it with /, ~/ or ./")
    around = cast("Surroundings", info.context)
    if text.startswith("~/"):
        return str(around.home / text[2:])
    if text.startswith("~"):
        raise ValueError(f"{shown(text)}: only ~/ is known, your own home; write the whole path")
    return str(around.base / text)


def _existing(path: str, info: ValidationInfo) -> str:
    if not cast("Surroundings", info.context).is_file(Path(path)):
        raise ValueError(f"{shown(path)} is not a file, or cannot be seen, on this machine")
    return path


def _ssh_config(text: str, info: ValidationInfo) -> str | None:
    if text == "none":
        return None
    return _controller_path("~/.ssh/config" if text == "default" else text, info)


LONGEST = 4096
"""The longest path on the controller, in characters."""

_PATH = Hint({"pattern": r"^[^- ~]|^~/", "maxLength": LONGEST})
ControllerPath = Annotated[str, AfterValidator(_controller_path), _PATH]
ExistingFile = Annotated[ControllerPath, AfterValidator(_existing)]
SshConfig = Annotated[str, AfterValidator(_ssh_config), _PATH]
