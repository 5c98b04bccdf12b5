"""Names, addresses, users and networks: what may follow ``ssh`` or stand in kube-proxy's config.

None of them can begin with ``-`` or hold a space or a character that a shell knows, so that no
program which is given one can take it for an option or a command.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, Field

from nodeprep.errors import UsageError
from nodeprep.inventory.allowed import Hint, Matching
from nodeprep.inventory.characters import shown
from nodeprep.inventory.folding import ends, terms

MAX_PORT = 65535

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?"
_HOST = Matching(
    rf"{_LABEL}(?:\.{_LABEL})*",
    "letters, digits, `-`, `_` and single dots, with a letter or digit at both ends",
)
_USER = Matching(
    r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?",
    "letters, digits, `.`, `_` and `-`, with a letter, digit or `_` in front",
    longest=64,
)
_ADDRESS = "an IPv4 address, an IPv6 address without brackets, a DNS name or `local`"
_ALL_DIGITS_AT_END = re.compile(r"(?:.*\.)?[0-9]+")
_LIKE_AN_IP = re.compile(r"[0-9.]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_HOP = re.compile(r"(?:(?P<user>.*)@)?(?:\[(?P<v6>[^]]*)\]|(?P<host>[^:@]*))(?::(?P<port>.*))?")
_FOLDED = Hint({"pattern": r"^[A-Za-z0-9:\[][A-Za-z0-9._:\[\],/-]*$", "maxLength": 1024})


def address(text: str) -> str:
    """Return ``text`` if it is the address of one machine. Raises ValueError."""
    if is_ip(text):
        return text
    if _ALL_DIGITS_AT_END.fullmatch(text) or not re.fullmatch(_HOST.pattern, text[:254]):
        raise ValueError(
            f"{shown(text)} is not an address: write {_ADDRESS}; a port goes into ssh.port"
        )
    return _HOST.checked(text)


def machine_name(text: str) -> str:
    """Return ``text`` if one machine can be called so. Raises ValueError."""
    return _HOST.checked(text)


def is_ip(text: str) -> bool:
    """Tell whether ``text`` is an IPv4 or IPv6 address, without a zone."""
    if not _LIKE_AN_IP.fullmatch(text):
        return False
    try:
        return bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def _foldable(check: Callable[[str], str]) -> Callable[[str], str]:
    """Apply ``check`` to the first and the last name of a pattern; the others are between them."""

    def checked(pattern: str) -> str:
        if len(terms(pattern)) > 1:
            raise ValueError(f"{shown(pattern)} is a list: give each node an entry of its own")
        try:
            names = ends(pattern)
        except UsageError as error:
            raise ValueError(error.message) from error
        for name in dict.fromkeys(names):
            check(name)
        return pattern

    return checked


def _is_port(text: str) -> bool:
    return bool(re.fullmatch(r"[1-9][0-9]{0,4}", text)) and int(text) <= MAX_PORT


def _hop(text: str) -> str:
    found = _HOP.fullmatch(text)
    if not found or not _is_port(found["port"] or "22") or text == "none":
        form = "[user@]host[:port], with an IPv6 address in brackets; [] stands for no jump"
        raise ValueError(f"{shown(text)} is not a jump host: write {form}")
    _USER.checked(found["user"] or "root")
    address(found["v6"] or found["host"] or "")
    return text


def _port_range(text: str) -> str:
    first, _, last = text.partition("-")
    if not (_is_port(first) and _is_port(last) and int(first) <= int(last)):
        raise ValueError(f"{shown(text)} is not a range of ports, such as 30000-32767")
    return text


def _ip(text: str) -> str:
    if not is_ip(text):
        raise ValueError(f"{shown(text)} is not an IP address")
    return text


def _endpoint(text: str) -> str:
    host, _, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not is_ip(bare) or host != (f"[{bare}]" if ":" in bare else bare) or not _is_port(port):
        example = "such as 127.0.0.1:10249 or [::1]:10249"
        raise ValueError(f"{shown(text)} is not an IP address and a port, {example}")
    return text


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    example = "such as 10.244.0.0/16 or fd00:10:244::/56"
    if not re.fullmatch(r"[0-9A-Fa-f:.]+/[0-9]{1,3}", text):
        raise ValueError(f"{shown(text)} is not a network, {example}")
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ValueError(f"{shown(text)} is not a network, {example}") from error
    if network.network_address != ipaddress.ip_address(text.partition("/")[0]):
        raise ValueError(f"{shown(text)} has bits behind its prefix: write {network}")
    return network


def _cidr(text: str) -> str:
    _network(text)
    return text


def _cluster_cidr(text: str) -> str:
    versions = [_network(part).version for part in text.split(",")]
    if len(versions) != len(set(versions)):
        raise ValueError(f"{shown(text)} has two networks of one kind: write one IPv4, one IPv6")
    return text


def _node_port_address(text: str) -> str:
    words = {"primary", "localhost", "all"}
    return text if text in words else _cidr(text)


Name = Annotated[str, AfterValidator(_foldable(_HOST.checked)), _FOLDED]
Address = Annotated[str, AfterValidator(_foldable(address)), _FOLDED]
Hop = Annotated[str, AfterValidator(_hop), Hint({"pattern": r"^[A-Za-z0-9_.@:\[\]$-]+$"})]
User = Annotated[str, _USER]
HostName = Annotated[str, _HOST]
Port = Annotated[int, Field(ge=1, le=MAX_PORT)]
PortRange = Annotated[
    str, AfterValidator(_port_range), Hint({"pattern": r"^[1-9][0-9]{0,4}-[1-9][0-9]{0,4}$"})
]
Ip = Annotated[str, AfterValidator(_ip), Hint({"pattern": r"^[0-9A-Fa-f:.]+$"})]
Endpoint = Annotated[str, AfterValidator(_endpoint), Hint({"pattern": r"^.+:[0-9]+$"})]
Cidr = Annotated[str, AfterValidator(_cidr), Hint({"pattern": r"^[0-9A-Fa-f:.]+/[0-9]+$"})]
ClusterCidr = Annotated[
    str, AfterValidator(_cluster_cidr), Hint({"pattern": r"^[0-9A-Fa-f:.]+/[0-9]+(,[^,]+)?$"})
]
NodePortAddress = Annotated[
    str,
    AfterValidator(_node_port_address),
    Hint({"pattern": r"^(primary|localhost|all|[0-9A-Fa-f:.]+/[0-9]+)$"}),
]
