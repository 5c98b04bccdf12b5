"""What options of ssh say, on its command line and in its configuration: settings and remarks.

Ansible hands words to ssh(1), and ssh_config(5) has the same options by longer names; both come
together in :func:`of_options`. A command is never repeated in a remark: it may hold a password.
"""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nodeprep.importing.imported import Key, Remark, Value

# From ssh(1): those that take a word, and those that stand alone.
_WITH_A_WORD = "BbcDEeFIiJLlmOoPpQRSWw"
_LONG_NAMES = {
    "J": "proxyjump",
    "p": "port",
    "l": "user",
    "i": "identityfile",
    "F": "config",
    "W": "stdioforward",
}
_NO_LOSS = frozenset(
    (
        *("addkeystoagent", "batchmode", "checkhostip", "compression", "connectionattempts"),
        *("connecttimeout", "controlmaster", "controlpath", "controlpersist", "escapechar"),
        *("exitonforwardfailure", "forwardagent", "forwardx11", "forwardx11trusted"),
        *("globalknownhostsfile", "gssapiauthentication", "gssapidelegatecredentials"),
        *("hashknownhosts", "identitiesonly", "kbdinteractiveauthentication", "loglevel"),
        *("passwordauthentication", "preferredauthentications", "pubkeyauthentication"),
        *("requesttty", "sendenv", "serveralivecountmax", "serveraliveinterval", "setenv"),
        *("tcpkeepalive", "updatehostkeys", "usekeychain", "visualhostkey", "ignoreunknown"),
        *("permitlocalcommand", "localcommand", "remotecommand", "numberofpasswordprompts"),
    )
)
"""Options without which nodeprep reaches the same machine as the same user."""

STRICT = Remark(
    "host keys are not checked there, but here they are",
    "log in once with ssh, or write `ssh: {host_keys: accept-new}`",
)
_NO_JUMP = Remark(
    "a ProxyCommand that is no plain `ssh -W` stays behind",
    "write the hosts to go through as `ssh: {jump: [user@host]}`",
)
HOP_KEY = Remark(
    "a jump host's own key, configuration or known hosts stay behind: the node's count there",
    "load both keys into the ssh agent, and leave `identity_file` out",
)

Option = tuple[str, str]
"""An option's long name in small letters, and its value."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What options come to: settings by our keys, remarks, and names that have no counterpart."""

    settings: Mapping[Key, Value]
    remarks: tuple[Remark, ...] = ()
    unknown: tuple[str, ...] = ()


def of_words(text: str) -> Told:
    """Return what the words of a command line of ssh say, such as ``-J bastion -o Port=22``."""
    try:
        options, _ = _parsed(shlex.split(text))
    except ValueError:
        return Told(settings={}, remarks=(Remark("ssh arguments with a quote that is not closed"),))
    return of_options(options)


def of_options(options: Iterable[Option]) -> Told:
    """Return what options say; of one that stands there twice the first counts, as for ssh."""
    settings: dict[Key, Value] = {}
    remarks: list[Remark] = []
    unknown: list[str] = []
    for name, value in options:
        match name:
            case "user" | "port" | "config":
                settings.setdefault(("ssh", name), _number(value) if name == "port" else value)
            case "identityfile":
                _identity(value, settings, remarks)
            case "proxyjump":
                settings.setdefault(("ssh", "jump"), _hops(value))
            case "proxycommand" if value.lower() != "none" and ("ssh", "jump") not in settings:
                hops, hop = jump_of(value)
                remarks += [*_of_hop(hop), *hop.remarks] if hops else [_NO_JUMP]
                unknown += hop.unknown
                settings |= {("ssh", "jump"): hops} if hops else {}
            case "proxycommand":
                pass
            case "stricthostkeychecking":
                _strictness(value, settings, remarks)
            case "userknownhostsfile":
                _known_hosts(value, settings)
            case _ if name not in _NO_LOSS:
                unknown.append(name)
    return Told(settings=settings, remarks=tuple(dict.fromkeys(remarks)), unknown=tuple(unknown))


def _parsed(words: Sequence[str]) -> tuple[list[Option], list[str]]:
    """Return the options of a command line of ssh, and the words that are none."""
    options: list[Option] = []
    rest: list[str] = []
    left = iter(words)
    for word in left:
        if not word.startswith("-") or word == "-":
            rest.append(word)
            continue
        options += _flags(word[1:], left)
    return options, rest


def _flags(letters: str, left: Iterator[str]) -> Iterator[Option]:
    """Yield the options of one word, such as ``-qJ bastion`` or ``-oPort=22``."""
    for at, letter in enumerate(letters):
        if letter in _WITH_A_WORD:
            value = letters[at + 1 :] or next(left, "")
            yield option(value) if letter == "o" else (_LONG_NAMES.get(letter, f"-{letter}"), value)
            return


def option(text: str) -> Option:
    """Return an option as ``-o`` and a line of a configuration have it: ``Name=value``."""
    found = re.fullmatch(r"\s*([A-Za-z0-9]+)(?:\s*=\s*|\s+)(.*?)\s*", text, re.DOTALL)
    return (found[1].lower(), found[2]) if found else (text.strip().lower(), "")


def _number(text: str) -> int | str:
    return int(text) if re.fullmatch(r"[0-9]{1,5}", text) else text


def _identity(value: str, settings: dict[Key, Value], remarks: list[Remark]) -> None:
    path = value.strip('"')
    if settings.setdefault(("ssh", "identity_file"), path) != path:
        remarks.append(Remark("of several identity files the first is written"))


def _hops(value: str) -> tuple[str, ...]:
    hops = (hop.strip().removeprefix("ssh://").rstrip("/") for hop in value.split(","))
    return () if value.lower() == "none" else tuple(hop for hop in hops if hop)


def _strictness(value: str, settings: dict[Key, Value], remarks: list[Remark]) -> None:
    if value.lower() in {"no", "off"}:
        remarks.append(STRICT)
    elif value.lower() == "accept-new":
        settings.setdefault(("ssh", "host_keys"), "accept-new")


def _known_hosts(value: str, settings: dict[Key, Value]) -> None:
    try:
        files = shlex.split(value)
    except ValueError:
        files = value.split()
    kept = tuple(file for file in files if file not in {"/dev/null", "none"})
    if kept:
        settings.setdefault(("ssh", "known_hosts"), kept)


def jump_of(command: str) -> tuple[tuple[str, ...], Told]:
    """Return the hops that a ProxyCommand goes through, and what else it tells of the last one.

    There are none where it is not a plain ``ssh -W``.
    """
    nothing = Told(settings={})
    try:
        words = shlex.split(command)
    except ValueError:
        return (), nothing
    words = words[1:] if words[:1] == ["exec"] else words
    if not words or words[0].rpartition("/")[2] != "ssh":
        return (), nothing
    options, rest = _parsed(words[1:])
    told = of_options(pair for pair in options if pair[0] != "stdioforward")
    forwards = [value for name, value in options if name == "stdioforward"]
    if len(rest) != 1 or forwards not in (["%h:%p"], ["[%h]:%p"]):
        return (), nothing
    return _through(rest[0], told.settings), told


def hop(host: str, user: str = "", port: object = None) -> str:
    """Return a jump host as our inventory writes it, with an IPv6 address in brackets."""
    place = f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host
    return f"{f'{user}@' if user else ''}{place}{f':{port}' if port else ''}"


def _through(host: str, settings: Mapping[Key, Value]) -> tuple[str, ...]:
    user, _, place = host.removeprefix("ssh://").rpartition("@")
    user = user or str(settings.get(("ssh", "user"), ""))
    before = settings.get(("ssh", "jump"), ())
    last = hop(place, user, settings.get(("ssh", "port")))
    return (*(before if isinstance(before, tuple) else ()), last)


def _of_hop(told: Told) -> list[Remark]:
    own = {("ssh", "identity_file"), ("ssh", "config"), ("ssh", "known_hosts")}
    return [] if own.isdisjoint(told.settings) else [HOP_KEY]
