"""iptables rules that match our ipsets, each kept in its chain on one side of kube-proxy's jumps.

A rule has no name and its number changes with every other one: it is found again by its comment.
Which comments are ours is on a record, :data:`RECORD`, which a unit puts in place at boot.
kube-proxy puts a jump that it misses in front of everything: so another unit looks after the order
while kube-proxy begins.

A node may have two backends. The rules go where plain ``iptables`` writes, unless kube-proxy's
jumps are in the other one.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from nodeprep import chains, files, iptables
from nodeprep.chains import Chain, Key, Verdict, key_of, text_of
from nodeprep.iptables import BACKENDS, Backend, Rule
from nodeprep.model import APPLY, BypassRule, Change, Fact, Facts, Finding, Node, Status
from nodeprep.render import render
from nodeprep.sharing import Share, Unit
from nodeprep.shell import Script, words

NAME = "bypass_rules"
TITLE = "Bypass rules"

HOME = "/etc/nodeprep"
RECORD = f"{HOME}/bypass-rules"
SCRIPT = f"{HOME}/bypass-rules.sh"
SETS = f"{HOME}/ipsets.d"
"""Where the files of our ipsets are."""

UNITS = "/etc/systemd/system"
PLACING, WATCHING = "nodeprep-bypass-rules.service", "nodeprep-bypass-order.service"

# --- facts ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is in the chains that matter. ``own`` is the backend of plain iptables, if there is one.

    ``units`` are the states of our units' files, by their names; empty where systemd does not run.
    ``watching`` says that the order is being looked after now. ``foreign_sets`` are sets that are
    there, that a rule is wanted for, and that have no file of ours.
    """

    own: Backend | None
    chains: tuple[Chain, ...]
    units: Mapping[str, str]
    watching: bool = False
    foreign_sets: tuple[str, ...] = ()


# Looking must not change anything: the first look makes a legacy table, or loads a module.
# iptables says 1 of a chain that is not there; since 1.8.7 that of nft calls it incompatible, which
# also may be true. What a kernel without nf_tables answers is known; any other failure, of a lock
# that is held for long, say, tells nothing of the chain.
_PROBE = f"""\
{iptables.MAY_LOOK}{iptables.PROGRAMS}{iptables.TABLES_OF}\
see() {{
  case $1 in
    nft) may_look nf_tables || return 0 ;;
    *) tables_of "$2" | grep -qx "$3" || return 0 ;;
  esac
  program=$(rules_program "$(iptables_of "$2")" "$1") || return 0
  rules=$("$program" --wait="$patience" -t "$3" -S "$4" 2>&1)
  case $?-$rules in
    0-*)
      echo "chain $*"
      printf '%%s\\n' "$rules" | grep '^-A' | grep -n -e '--match-set' -e ' -[jg] KUBE-[^ ]*$'
      ;;
    *'nvalid argument'* | *'ot supported'*) echo "absent $*" ;;
    1-*incompatible*) if is_foreign "$1" "$2" "$3"; then unread "$@"; else echo "absent $*"; fi ;;
    1-*) echo "absent $*" ;;
    *) unread "$@" ;;
  esac
}}
is_foreign() {{
  save=$(rules_program "$(iptables_of "$2")" "$1" save) &&
    "$save" -t "$3" 2>&1 | grep -q '^# Table .* is incompatible'
}}
# Each chain would wait for the same lock.
unread() {{
  patience=1
  echo "unread $*"
  printf '%%s\\n' "$rules" | grep -v '^#' | tail -n 1
}}
patience=5
case $(iptables --version) in *nf_tables*) echo own nft ;; *" v"*) echo own legacy ;; esac
for name in {PLACING} {WATCHING}; do
  unit_shown "$name"
  printf '%%s\\n' "$shown"
done
if command -v ipset >/dev/null && may_look ip_set; then
  for set in $(ipset list -n | grep -xF %(sets)s); do
    [ -f "{SETS}/$set" ] || echo "foreign $set"
  done
fi
{{
  printf '%%s\\n' %(chains)s
  sed -n 's/^[a-z]* \\([46] [^ ]* [^ ]*\\) .*/\\1/p' {RECORD}
}} | sort -u | while read -r family table chain; do
  for backend in nft legacy; do see "$backend" "$family" "$table" "$chain"; done
done
:"""


def _script(node: Node) -> str:
    wanted = node.desired.bypass_rules
    if wanted is None:
        return ""
    chains = {"4 nat PREROUTING", *(f"{r.family} {r.table} {r.chain}" for r in wanted)}
    sets = (word for name in sorted({rule.set for rule in wanted}) for word in ("-e", name))
    return _PROBE % {"chains": words(*sorted(chains)), "sets": words(*sets) or "-e ''"}


def parse(text: str) -> Seen:
    """Read the backend, units, and chains: each a line with its place, then ``N:RULE`` lines."""
    head, *found = re.split(r"^(?=(?:chain|absent|unread) )", text, flags=re.MULTILINE)
    own = re.search(r"^own (nft|legacy)$", head, re.MULTILINE)
    units = dict(map(_unit, re.split(r"^Id=", head, flags=re.MULTILINE)[1:]))
    return Seen(
        own=chains.backend(own[1]) if own else None,
        chains=tuple(map(chains.read, found)),
        units={name: state for name, (state, _) in units.items()},
        watching=units.get(WATCHING, ("", ""))[1] in ("active", "activating"),
        foreign_sets=tuple(re.findall(r"^foreign (\S+)$", head, re.MULTILINE)),
    )


def _unit(text: str) -> tuple[str, tuple[str, str]]:
    name, _, rest = text.partition("\n")
    said = dict(line.partition("=")[::2] for line in rest.splitlines())
    return name, (said.get("UnitFileState", ""), said.get("ActiveState", ""))


SEEN = Fact(name="bypass_rules", script=_script, parse=parse)
FACTS = (SEEN,)


def share(node: Node) -> Share:
    """Return what is asked together with other topics."""
    units = () if node.desired.bypass_rules is None else (PLACING, WATCHING)
    return Share(units=tuple(Unit(name=unit) for unit in units))


# --- comparing ------------------------------------------------------------------------------


def recorded(facts: Facts) -> frozenset[Key]:
    """Return the rules on the node's record: those are ours."""
    state = facts.file(RECORD)
    text = (state.content or b"").decode("utf-8", "replace") if state.ours else ""
    found = re.finditer(r"^[a-z]+ ([46]) (\S+) (\S+) \S+ (.*)$", text, re.MULTILINE)
    return frozenset(
        (int(line[1]), line[2], line[3], iptables.comment_of(line[4])) for line in found
    )


def _place(facts: Facts) -> tuple[str, Backend]:
    """Return the backend that the rules go to: as the record says it, and which one this is."""
    seen = facts[SEEN]
    own = seen.own or BACKENDS[0]
    jumping = {chain.backend for chain in seen.chains if chain.jumps and chain.table == "nat"}
    if jumping and own not in jumping:
        (other,) = jumping
        return other, other
    return "own", own


def _chain_of(rule: BypassRule, backend: Backend, facts: Facts) -> Chain:
    """Return the chain of a rule; one that nothing is known of exists where the kernel has it."""
    place = backend, rule.family, rule.table, rule.chain
    known = {(c.backend, c.family, c.table, c.name): c for c in facts[SEEN].chains}
    return known.get(place) or Chain(
        backend=backend,
        family=rule.family,
        table=rule.table,
        name=rule.chain,
        exists=rule.chain in iptables.BUILT_IN[rule.table],
    )


def _refusal(rule: BypassRule, node: Node, facts: Facts) -> tuple[str, str]:
    """Return why a rule is left alone, and what to type; or two ''."""
    if node.desired.adopt:
        return "", ""
    hint = "or set `adopt: true` for this node to take it over"
    if rule.set in facts[SEEN].foreign_sets:
        return f"another hand made the ipset {rule.set}", f"choose another set, {hint}"
    chain = _chain_of(rule, _place(facts)[1], facts)
    if key_of(rule) not in recorded(facts) and key_of(rule) in map(key_of, chain.rules):
        return "another hand made a rule with this comment", f"choose another `comment`, {hint}"
    return "", ""


def _accepted(node: Node, facts: Facts) -> tuple[BypassRule, ...]:
    rules = node.desired.bypass_rules or ()
    return tuple(rule for rule in rules if not _refusal(rule, node, facts)[0])


def _verdicts(node: Node, facts: Facts) -> Mapping[BypassRule, Verdict]:
    accepted, backend = _accepted(node, facts), _place(facts)[1]
    told = {}
    for rule in accepted:
        beside = [other for other in accepted if key_of(other)[:3] == key_of(rule)[:3]]
        judged = chains.verdict(rule, beside, _chain_of(rule, backend, facts))
        told[rule] = _patient(judged) if facts[SEEN].watching else judged
    return told


def _patient(judged: Verdict) -> Verdict:
    # kube-proxy's jump may have come a moment ago.
    if not judged.beside_jump:
        return judged
    return replace(judged, status=Status.WARN, hint=f"wait: {WATCHING} runs, and will move it")


def _unread(node: Node, facts: Facts) -> tuple[Chain, ...]:
    """Return the chains that could not be read, where there is anything to know of them.

    Each may have kube-proxy's jumps, which tell where our rules belong, and rules of ours, which
    must not leave the record before they leave the kernel: so nothing is done beside one.
    """
    if not node.desired.bypass_rules and not recorded(facts):
        return ()
    return tuple(chain for chain in facts[SEEN].chains if chain.unread)


def _strays(node: Node, facts: Facts) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
    """Return our rules that are not wanted any more, and those that are in the wrong backend."""
    ours, backend = recorded(facts), _place(facts)[1]
    wanted = {key_of(rule) for rule in node.desired.bypass_rules or ()}
    rules = [rule for chain in facts[SEEN].chains for rule in chain.rules if key_of(rule) in ours]
    return (
        tuple(rule for rule in rules if key_of(rule) not in wanted),
        tuple(rule for rule in rules if key_of(rule) in wanted and rule.backend != backend),
    )


def _files(node: Node, facts: Facts) -> tuple[files.ManagedFile, ...]:
    """Return the script, the record, and both units."""
    backend = _place(facts)[0]
    lines = [
        f"{backend} {rule.family} {rule.table} {rule.chain} {rule.position} {text_of(rule)}"
        for rule in _accepted(node, facts)
    ]
    values = {
        "mark": files.MARK,
        "folder": HOME,
        "script": SCRIPT,
        "record": RECORD,
        "programs": iptables.PROGRAMS,
        "rules": lines,
        "proxy_unit": node.desired.kube_proxy.unit_name,
    }
    templates = zip(
        paths(node), ("bypass-rules.sh", "bypass-rules", PLACING, WATCHING), strict=True
    )
    return tuple(
        files.ManagedFile(path=path, content=render(f"{name}.j2", values))
        for path, name in templates
    )


def _refused_file(node: Node, facts: Facts) -> str:
    adopt = node.desired.adopt
    wanted = _files(node, facts)
    refusals = (f.path for f in wanted if files.refusal(f, facts.file(f.path), adopt=adopt)[0])
    return next(refusals, "")


# --- the contract ---------------------------------------------------------------------------


def paths(node: Node) -> tuple[str, ...]:
    """Return the script, the record, and both units."""
    if node.desired.bypass_rules is None:
        return ()
    return SCRIPT, RECORD, f"{UNITS}/{PLACING}", f"{UNITS}/{WATCHING}"


def secrets(_: Node) -> tuple[str, ...]:
    """Nothing here is secret."""
    return ()


def changes(node: Node, facts: Facts) -> tuple[Change, ...]:
    """Remove what is not wanted any more, record the rest, and put it where it belongs.

    A rule leaves the record after it left the kernel, and enters it before: whatever is ours is on
    it at any time.
    """
    if node.desired.bypass_rules is None or _refused_file(node, facts) or _unread(node, facts):
        return ()
    unwanted, misplaced = _strays(node, facts)
    wanted = bool(node.desired.bypass_rules)
    written = _written(node, facts) if wanted else ()
    wrong = any(verdict.hint == APPLY for verdict in _verdicts(node, facts).values())
    return (
        *map(_remove, unwanted),
        *written,
        *(_ENABLE if wanted and _to_enable(facts, written) else ()),
        *(_PLACE if wrong else ()),
        *map(_remove, misplaced),
        *(_RETIRE if _is_done(node, facts) else ()),
    )


def _written(node: Node, facts: Facts) -> tuple[Change, ...]:
    adopt = node.desired.adopt
    each = (files.change(NAME, f, facts.file(f.path), adopt=adopt) for f in _files(node, facts))
    return tuple(filter(None, each))


def _remove(rule: Rule) -> Change:
    return Change(
        topic=NAME,
        subject=rule.comment,
        summary=f"remove rule {rule.number} of {rule}: {rule.text}",
        action=iptables.removal([rule]),
    )


def _to_enable(facts: Facts, written: Sequence[Change]) -> bool:
    states = facts[SEEN].units
    new = any(change.subject.startswith(UNITS) for change in written)
    masked = "masked" in states.values()
    return bool(states) and not masked and (new or set(states.values()) != {"enabled"})


def _is_done(node: Node, facts: Facts) -> bool:
    """Tell whether no rule is wanted, and what once put rules in place has had its time."""
    return not node.desired.bypass_rules and any(facts.file(path).ours for path in paths(node))


def _step(subject: str, summary: str, action: str) -> Change:
    return Change(topic=NAME, subject=subject, summary=summary, action=Script(action))


_EVERY = " ".join((SCRIPT, RECORD, f"{UNITS}/{PLACING}", f"{UNITS}/{WATCHING}"))
_ENABLE = (
    _step("enable", f"enable {PLACING} and {WATCHING}", f"systemctl enable {PLACING} {WATCHING}"),
)
_PLACE = (_step("place", "put the bypass rules in place", f"sh {SCRIPT} place"),)
_RETIRE = (
    _step(
        "retire",
        f"remove {PLACING} and {WATCHING}, which have no rule left",
        "if command -v systemctl >/dev/null; then\n"
        f"  systemctl disable {PLACING} {WATCHING}\n"
        f"fi\nrm -f -- {_EVERY}",
    ),
)


# --- findings -------------------------------------------------------------------------------


def findings(node: Node, facts: Facts) -> tuple[Finding, ...]:
    """Say how each rule stands, now and at the next boot, and what is left of others of ours."""
    if node.desired.bypass_rules is None:
        return ()
    if unread := _unread(node, facts):
        return tuple(map(_unknown, unread))
    refused = _refused_file(node, facts)
    wanted = bool(node.desired.bypass_rules)
    found = (
        *_of_rules(node, facts),
        *_of_strays(node, facts),
        *(_at_boot(node, facts) if wanted else _retired(node, facts)),
        *_without_effect(node),
    )
    remedy = f"see {refused} first" if refused else APPLY
    return tuple(replace(f, hint=remedy) if f.hint == APPLY else f for f in found)


def _unknown(chain: Chain) -> Finding:
    name = f"{chain.table} {chain.name} (IPv{chain.family}, {chain.backend} backend)"
    hint = "try again later; nothing is changed before it can be read"
    return _finding(name, Status.FAIL, f"could not be read: {chain.unread}", "read", hint)


def _of_rules(node: Node, facts: Facts) -> Iterator[Finding]:
    told = _verdicts(node, facts)
    for rule in node.desired.bypass_rules or ():
        name, wanted = _name(rule), f"{rule.position}: {text_of(rule)}"
        why, hint = _refusal(rule, node, facts)
        if why:
            yield _finding(name, Status.FAIL, why, wanted, hint)
        else:
            judged = told[rule]
            yield _finding(name, judged.status, judged.actual, wanted, judged.hint)


def _name(rule: BypassRule | Rule) -> str:
    return f"{rule.table} {rule.chain} {rule.comment}" + (" (IPv6)" if rule.family == 6 else "")  # noqa: PLR2004


def _stray(rule: Rule) -> str:
    return f"{_name(rule)}, {rule.backend} backend"


def _of_strays(node: Node, facts: Facts) -> Iterator[Finding]:
    unwanted, misplaced = _strays(node, facts)
    for rule in unwanted:
        actual = f"rule {rule.number} ({rule.place}): the inventory no longer has it"
        yield _finding(_stray(rule), Status.FAIL, actual, "removed", APPLY)
    for rule in misplaced:
        actual = f"rule {rule.number} ({rule.place}) is in the backend that is not used"
        yield _finding(_stray(rule), Status.FAIL, actual, "removed", APPLY)
    for rule in _doubles(node, facts):
        actual = f"rule {rule.number} ({rule.place}) has this comment too, and is not nodeprep's"
        hint = f"nodeprep rules --match '{rule.comment}'"
        yield _finding(_stray(rule), Status.WARN, actual, "none in that backend", hint)


def _doubles(node: Node, facts: Facts) -> tuple[Rule, ...]:
    """Return rules of others in the wrong backend that look like ours."""
    ours, backend = recorded(facts), _place(facts)[1]
    wanted = {key_of(rule) for rule in node.desired.bypass_rules or ()} - ours
    rules = (rule for chain in facts[SEEN].chains for rule in chain.rules)
    return tuple(rule for rule in rules if key_of(rule) in wanted and rule.backend != backend)


def _at_boot(node: Node, facts: Facts) -> Iterator[Finding]:
    for file in _files(node, facts):
        yield files.finding(NAME, file, facts.file(file.path), adopt=node.desired.adopt)
    states = facts[SEEN].units
    if not states:
        image = node.desired.kube_proxy.run == "never"
        hint = f"let the system's own init run `sh {SCRIPT} place` behind its firewall"
        status = Status.SKIP if image else Status.FAIL
        yield _finding("at boot", status, "systemd does not run here", "put in place", hint)
    elif set(states.values()) == {"enabled"}:
        yield _finding("at boot", Status.OK, f"{PLACING} and {WATCHING} are enabled")
    else:
        told = ", ".join(f"{name}: {state or 'no such unit'}" for name, state in states.items())
        masked = [name for name, state in states.items() if state == "masked"]
        hint = f"systemctl unmask {' '.join(masked)}" if masked else APPLY
        yield _finding("at boot", Status.FAIL, told, "enabled", hint)


def _retired(node: Node, facts: Facts) -> Iterator[Finding]:
    if _is_done(node, facts):
        actual = f"{PLACING} and {WATCHING} have no rule left"
        yield _finding("at boot", Status.FAIL, actual, "removed", APPLY)


def _without_effect(node: Node) -> Iterator[Finding]:
    # A verdict in one chain of a hook does not keep a packet from the hook's other chains.
    if node.desired.kube_proxy.mode != "nftables":
        return
    for rule in node.desired.bypass_rules or ():
        if rule.table == "nat" and rule.target != "DROP":
            actual = f"kube-proxy's nftables rules are not skipped by {rule.target} here"
            hint = "see docs/ipsets.md, kube-proxy's modes"
            yield _finding(f"{_name(rule)}: effect", Status.WARN, actual, "", hint)


def _finding(name: str, status: Status, actual: str, wanted: str = "", hint: str = "") -> Finding:
    wanted = "" if status is Status.OK else wanted
    return Finding(topic=NAME, name=name, status=status, actual=actual, wanted=wanted, hint=hint)
