"""A firewall of the node stays as it is: what must get through is said, or opened where asked.

firewalld is never reloaded. Up to 1.x, and later too where it has direct rules, a reload flushes
every iptables rule, kube-proxy's with them (``Firewall.flush`` in firewall/core/fw.py; rke2#10469,
firewalld#863). So what is opened is opened twice: in what runs, and in what is kept.

In ipvs mode all traffic to services passes INPUT, node ports too (kubernetes#98465). In the other
modes firewalld lets through what kube-proxy translated; what ends at the node itself it does not.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nodeprep import firewalld as firewalld_
from nodeprep.firewalld import OF_PODS, TRUSTED, Firewalld, Missing, Opening
from nodeprep.model import APPLY, Change, Fact, Facts, Finding, Node, Status
from nodeprep.sharing import Share, Unit
from nodeprep.shell import Script, words

NAME = "firewall"
TITLE = "Firewall"

_NFT_FILES = (
    "/etc/nftables.conf",
    "/etc/sysconfig/nftables.conf",
    "/etc/systemd/system/nftables.service",
    "/usr/lib/systemd/system/nftables.service",
    "/lib/systemd/system/nftables.service",
)


# --- facts ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Ufw:
    """ufw, where it is on: its policy for what is forwarded, and what it lets through there."""

    forward: str
    routes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Firewalls:
    """What filters on a node; ``None`` for what is not there or not on.

    ``flushes`` are the places, as ``FILE:LINE``, by which an enabled nftables.service flushes all
    rules there are.
    """

    firewalld: Firewalld | None = None
    ufw: Ufw | None = None
    flushes: tuple[str, ...] = ()


_UNIT = Unit(name="firewalld.service", condition="command -v firewall-cmd >/dev/null")

# Where there is none, no program is started. A default route is a line of zeros.
_PROBE = f"""\
for path in /etc/systemd/system/*.wants/nftables.service; do
  [ -L "$path" ] || continue
  echo flushes:
  grep -sHnE '^[^#]*flush +ruleset' {words(*_NFT_FILES)}
  break
done
if [ -x /usr/sbin/ufw ]; then
  echo ufw:
  grep -shE '^(ENABLED|DEFAULT_FORWARD_POLICY)=|^### tuple ### route:allow' /etc/ufw/ufw.conf \\
    /etc/default/ufw /etc/ufw/user.rules /etc/ufw/user6.rules
fi
if command -v firewall-cmd >/dev/null; then
  echo firewalld:
  unit_shown {_UNIT.name}
  printf '%s\\n' "$shown"
  active=
  case $shown in *ActiveState=active*) active=yes ;; esac
  if [ "$active" ]; then
    grep -shE '^(DefaultZone|FirewallBackend)=' /etc/firewalld/firewalld.conf
    grep -qs may_skip_flush_direct_backends /usr/lib/python3*/*-packages/firewall/core/fw.py &&
      echo spares
    grep -qsE '<(rule|chain|passthrough)[ >]' /etc/firewalld/direct.xml && echo direct
    while read -r device target _ _ _ _ _ mask _; do
      [ "$target$mask" = 0000000000000000 ] && echo "uplink $device"
    done </proc/net/route
    [ -e /proc/net/ipv6_route ] && while read -r target prefix _ _ _ _ _ _ _ device; do
      [ "$prefix" = 00 ] && [ "$device" != lo ] || continue
      case $target in *[!0]*) ;; *) echo "uplink $device" ;; esac
    done </proc/net/ipv6_route
    echo runtime:
    timeout 20 firewall-cmd --list-all-zones
    echo permanent:
    timeout 20 firewall-cmd --permanent --list-all-zones
  fi
fi
:"""


def parse(text: str) -> Firewalls:
    """Read what each firewall has to say, below its title."""
    titles = r"^(flushes|ufw|firewalld|runtime|permanent):\n"
    _, *titled = re.split(titles, text, flags=re.MULTILINE)
    said = dict(zip(titled[::2], titled[1::2], strict=True))
    return Firewalls(
        firewalld=_firewalld(said) if "firewalld" in said else None,
        ufw=_ufw(said.get("ufw", "").splitlines()),
        flushes=tuple(re.findall(r"^(/[^:\n]+:\d+):", said.get("flushes", ""), re.MULTILINE)),
    )


def _ufw(lines: list[str]) -> Ufw | None:
    if "ENABLED=yes" not in lines:
        return None
    policies = (line.partition("=")[2].strip("\"'") for line in lines if line[:8] == "DEFAULT_")
    rules = (line.removeprefix("### tuple ### ") for line in lines if line[:3] == "###")
    return Ufw(forward=next(policies, "DROP"), routes=tuple(rules))


def _firewalld(said: Mapping[str, str]) -> Firewalld:
    head = said["firewalld"].splitlines()
    given = dict(line.partition("=")[::2] for line in head if "=" in line)
    default = given.get("DefaultZone", "public").strip()
    uplinks = (line.removeprefix("uplink ") for line in head if line.startswith("uplink "))
    return Firewalld(
        active=given.get("ActiveState") == "active",
        default_zone=default,
        backend=given.get("FirewallBackend", "iptables").strip(),
        spares="spares" in head,
        direct="direct" in head,
        uplinks=tuple(dict.fromkeys(uplinks)),
        runtime=tuple(firewalld_.zones(said.get("runtime", ""), default)),
        permanent=tuple(firewalld_.zones(said.get("permanent", ""), default)),
    )


FIREWALLS = Fact(name="firewall", script=lambda _: _PROBE, parse=parse)
FACTS = (FIREWALLS,)


def share(_: Node) -> Share:
    """Return what is asked together with other topics."""
    return Share(units=(_UNIT,))


# --- comparing ------------------------------------------------------------------------------


def _pods(node: Node) -> tuple[str, ...]:
    return tuple(filter(None, (node.desired.kube_proxy.cluster_cidr or "").split(",")))


def wanted(node: Node, firewalld: Firewalld) -> tuple[Opening, ...]:
    """Return what must get through: the pods always, and what the inventory says is used."""
    asked = node.desired.firewall
    ports = [("node ports", f"{asked.node_ports}/{p}") for p in ("tcp", "udp") if asked.node_ports]
    if asked.health_check:
        ports.append(("health check", f"{node.desired.kube_proxy.healthz_endpoint[1]}/tcp"))
    return (
        *(Opening(purpose="pods", zone=TRUSTED, kind="source", value=pod) for pod in _pods(node)),
        *(
            Opening(purpose=purpose, zone=zone, kind="port", value=port)
            for purpose, port in ports
            for zone in firewalld_.outward(firewalld)
        ),
    )


def _by_purpose(node: Node, firewalld: Firewalld) -> Mapping[str, tuple[Missing, ...]]:
    """Return what is missing of each thing that is wanted, nothing where it is let through."""
    openings = wanted(node, firewalld)
    lacking = firewalld_.missing(firewalld, openings)
    return {
        purpose: tuple(each for each in lacking if each.opening.purpose == purpose)
        for purpose in dict.fromkeys(opening.purpose for opening in openings)
    }


def _obstacles(group: Iterable[Missing], firewalld: Firewalld) -> str:
    found = (firewalld_.obstacle(each.opening, firewalld) for each in group)
    return "; ".join(dict.fromkeys(filter(None, found)))


def _values(group: Iterable[Missing]) -> str:
    return ", ".join(dict.fromkeys(each.opening.value for each in group))


# --- the contract ---------------------------------------------------------------------------


def paths(_: Node) -> tuple[str, ...]:
    """Its files are the firewall's own."""
    return ()


secrets = paths


def changes(node: Node, facts: Facts) -> tuple[Change, ...]:
    """Open what is missing in firewalld, and nothing else; only where the inventory says so."""
    firewalld = facts[FIREWALLS].firewalld
    if not node.desired.firewall.open or firewalld is None or not firewalld.runtime:
        return ()
    return tuple(
        _open(purpose, group)
        for purpose, group in _by_purpose(node, firewalld).items()
        if group and not _obstacles(group, firewalld)
    )


def _open(purpose: str, group: tuple[Missing, ...]) -> Change:
    return Change(
        topic=NAME,
        subject=purpose,
        summary=f"let {purpose} through firewalld: {_values(group)}",
        action=Script(" &&\n".join(firewalld_.commands(group))),
    )


def findings(node: Node, facts: Facts) -> tuple[Finding, ...]:
    """Say which firewalls there are, what does not get through, and what would wipe all rules."""
    seen = facts[FIREWALLS]
    told = (
        *_firewalld_findings(node, seen.firewalld),
        *_ufw_findings(node, seen.ufw),
        *_flushes(seen.flushes),
    )
    return told or (_finding("firewall", Status.OK, "neither firewalld nor ufw is on"),)


def _firewalld_findings(node: Node, firewalld: Firewalld | None) -> tuple[Finding, ...]:
    if firewalld is None or not firewalld.active:
        return ()
    if not firewalld.runtime:
        hint = "firewall-cmd --state; journalctl -u firewalld"
        return (_finding("firewalld", Status.WARN, "runs, but does not answer", "", hint),)
    says = f"on; {firewalld.backend} backend, default zone {firewalld.default_zone}"
    return (
        _finding("firewalld", Status.OK, says),
        *_unknown_pods(node),
        *(
            _through(node, firewalld, purpose, group)
            for purpose, group in _by_purpose(node, firewalld).items()
        ),
        *_reload(node, firewalld),
    )


def _unknown_pods(node: Node) -> tuple[Finding, ...]:
    if _pods(node):
        return ()
    actual = "the inventory names no `cluster_cidr`"
    return (_finding("pods", Status.SKIP, actual, "let through", "set `cluster_cidr`"),)


def _through(node: Node, firewalld: Firewalld, purpose: str, group: tuple[Missing, ...]) -> Finding:
    if not group:
        return _finding(purpose, Status.OK, "let through")
    later = "until firewalld starts anew"
    state = "not let through" if any(each.runtime for each in group) else f"let through {later}"
    actual, ours = f"{state}: {_values(group)}", node.desired.firewall.open
    status = Status.FAIL if ours else Status.WARN
    if blocked := _obstacles(group, firewalld):
        hint = f"firewall-cmd --list-all-zones, and let {_values(group)} through by hand"
        return _finding(purpose, status, f"{actual}; {blocked}", "let through", hint)
    typed = " && ".join(firewalld_.commands(group))
    hint = APPLY if ours else f"{typed}; or set `firewall: {{open: true}}`, then: {APPLY}"
    return _finding(purpose, status, actual, "let through", hint)


def _reload(node: Node, firewalld: Firewalld) -> tuple[Finding, ...]:
    spared = firewalld.spares and firewalld.backend == "nftables" and not firewalld.direct
    if spared or node.desired.kube_proxy.mode == "nftables":
        return ()
    actual = "a reload or restart of firewalld removes all iptables rules, kube-proxy's too"
    hint = "firewall-cmd with and without --permanent; after a reload kube-proxy's next sync mends"
    return (_finding("reload", Status.WARN, actual, "none while the node serves", hint),)


def _ufw_findings(node: Node, ufw: Ufw | None) -> tuple[Finding, ...]:
    if ufw is None:
        return ()
    cidrs = _pods(node)
    words_ = {word for rule in ufw.routes for word in rule.split()}
    by_device = any(word.startswith(tuple(f"in_{name}" for name in OF_PODS)) for word in words_)
    if ufw.forward == "ACCEPT" or by_device or (cidrs and words_.issuperset(cidrs)):
        return (_finding("ufw", Status.OK, "on; pods' traffic is forwarded"),)
    typed = " && ".join(
        f"ufw route allow from {cidr} && ufw route allow to {cidr} && ufw allow from {cidr}"
        for cidr in cidrs or ("CLUSTER_CIDR",)
    )
    actual = f"on; its policy for what is forwarded is {ufw.forward}"
    return (_finding("ufw", Status.WARN, actual, "pods' traffic is forwarded", typed),)


def _flushes(places: tuple[str, ...]) -> tuple[Finding, ...]:
    if not places:
        return ()
    actual = f"its reload, restart or stop flushes kube-proxy's rules too ({places[0]})"
    hint = f"`delete table` of its own tables in place of `flush ruleset`: {' '.join(places)}"
    return (_finding("nftables.service", Status.WARN, actual, "only its own tables", hint),)


def _finding(name: str, status: Status, actual: str, wanted: str = "", hint: str = "") -> Finding:
    return Finding(topic=NAME, name=name, status=status, actual=actual, wanted=wanted, hint=hint)
