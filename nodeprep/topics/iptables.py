"""iptables has two backends, and rules in both of them at once are met by every packet.

kube-proxy writes with the program called ``iptables``. Rules that it, kubelet or a firewall left in
the other backend in an earlier time stay there and go on to work (kubernetes#71305, #109811). A
kernel without ``ip_tables`` has no legacy backend at all, as those of 6.17 and later may be built
(rancher#54862). The kernel's own list tells of legacy tables, and no module is loaded for a look.
"""

import re
from dataclasses import dataclass

from nodeprep.iptables import LOOKING
from nodeprep.model import Change, Fact, Facts, Finding, Node, Status

NAME = "iptables"
TITLE = "iptables"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How many rules a backend (``nft`` or ``legacy``) has, and how many of them are KUBE-."""

    backend: str
    family: int
    count: int
    kube: int


@dataclass(frozen=True, kw_only=True)
class Iptables:
    """The installed iptables, and the rules of both backends where both may have some.

    ``backend`` is the program's own, empty where there is no iptables. ``tables`` are the legacy
    ones in the kernel. ``possible`` says that a legacy backend runs on this kernel.
    """

    version: str = ""
    backend: str = ""
    possible: bool = True
    tables: tuple[str, ...] = ()
    rules: tuple[Rules, ...] = ()


# Of a node without legacy tables, and that is almost every one, only the version is asked.
_PROBE = (
    LOOKING
    + """\
version=
if command -v iptables >/dev/null; then
  version=$(iptables --version)
  printf '%s\\n' "$version"
fi
tables=
for file in /proc/net/ip_tables_names /proc/net/ip6_tables_names; do
  [ -e "$file" ] || continue
  while read -r table; do
    tables=1
    printf 'table %s\\n' "$table"
  done <"$file"
done
case $version in
  '' | *nf_tables*) ;;
  *)
    modules=/lib/modules/$(uname -r)
    [ -e /proc/net/ip_tables_names ] || [ ! -e "$modules/modules.dep" ] ||
      grep -qsE '/ip_tables[.]ko' "$modules/modules.dep" "$modules/modules.builtin" ||
      echo impossible
    ;;
esac
if [ "$tables" ]; then
  for backend in nft legacy; do
    for family in 4 6; do
      saved_rules "$backend" "$family" | awk -v where="$backend $family" '
        /^-A / { count++; if (/KUBE-/) kube++ }
        /^COMMIT/ { seen = 1 }
        END { if (seen) print "rules", where, count + 0, kube + 0 }'
    done
  done
fi
:"""
)


def parse(text: str) -> Iptables:
    r"""Read the version, ``table NAME``, and ``rules BACKEND FAMILY COUNT KUBE``.

    >>> parse("iptables v1.8.9 (nf_tables)\n").backend
    'nft'
    """
    said = re.search(r"^iptables v([\d.]+)(.*)$", text, re.MULTILINE)
    rules = re.findall(r"^rules (nft|legacy) ([46]) (\d{1,9}) (\d{1,9})$", text, re.MULTILINE)
    return Iptables(
        version=said[1] if said else "",
        backend=("nft" if "nf_tables" in said[2] else "legacy") if said else "",
        possible="impossible" not in text.splitlines(),
        tables=tuple(dict.fromkeys(re.findall(r"^table (\w+)$", text, re.MULTILINE))),
        rules=tuple(
            Rules(backend=backend, family=int(family), count=int(count), kube=int(kube))
            for backend, family, count, kube in rules
        ),
    )


IPTABLES = Fact(name="iptables", script=lambda _: _PROBE, parse=parse)
FACTS = (IPTABLES,)


def paths(_: Node) -> tuple[str, ...]:
    """Nothing here is written."""
    return ()


secrets = paths


def changes(_: Node, __: Facts) -> tuple[Change, ...]:
    """Nothing here is changed: whose rules they are, the operator knows."""
    return ()


def findings(node: Node, facts: Facts) -> tuple[Finding, ...]:
    """Say which backend ``iptables`` is, and whether the other one has rules as well."""
    seen = facts[IPTABLES]
    return (_program(node, seen), *_both(node, seen))


def _program(node: Node, seen: Iptables) -> Finding:
    if not seen.version:
        return _finding("backend", Status.OK, "no iptables here")
    says = f"{seen.backend}, {seen.version}"
    if seen.possible or node.desired.kube_proxy.mode == "nftables":
        return _finding("backend", Status.OK, says)
    actual = f"{says}, and this kernel has no ip_tables"
    hint = "update-alternatives --set iptables /usr/sbin/iptables-nft, and ip6tables likewise"
    return _finding("backend", Status.FAIL, actual, "the nft backend", hint)


def _count(seen: Iptables, backend: str) -> tuple[int, int]:
    mine = [rules for rules in seen.rules if rules.backend == backend]
    return sum(rules.count for rules in mine), sum(rules.kube for rules in mine)


def _both(node: Node, seen: Iptables) -> tuple[Finding, ...]:
    (nft, nft_kube), (legacy, legacy_kube) = _count(seen, "nft"), _count(seen, "legacy")
    if seen.tables and not any(rules.backend == "legacy" for rules in seen.rules):
        actual = (
            f"the kernel has legacy tables ({', '.join(seen.tables)}) and nothing here reads them"
        )
        hint = "install iptables-legacy, and see: iptables-legacy-save; a reboot clears them"
        return (_finding("both backends", Status.WARN, actual, "rules in one of them", hint),)
    if not (nft and legacy):
        return ()
    actual = f"nft has {nft} rules ({nft_kube} of KUBE-), legacy {legacy} ({legacy_kube} of KUBE-)"
    stale = legacy_kube if seen.backend == "nft" else nft_kube
    hint = _hint(seen, stale=bool(stale) and node.desired.kube_proxy.style != "unmanaged")
    return (_finding("both backends", Status.WARN, actual, "rules in one of them", hint),)


def _hint(seen: Iptables, *, stale: bool) -> str:
    other = "legacy" if seen.backend == "nft" else "nft"
    if not stale:
        return f"see whose they are: iptables-{other}-save, ip6tables-{other}-save"
    typed = (
        f"{p}-{other}-save | grep -v KUBE- | {p}-{other}-restore" for p in ("iptables", "ip6tables")
    )
    rest = "; ".join(typed)
    return f"kube-proxy here writes to {seen.backend}; a reboot clears the rest, or: {rest}"


def _finding(name: str, status: Status, actual: str, wanted: str = "", hint: str = "") -> Finding:
    return Finding(topic=NAME, name=name, status=status, actual=actual, wanted=wanted, hint=hint)
