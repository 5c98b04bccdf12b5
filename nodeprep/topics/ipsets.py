"""Named ipsets, kept equal to the inventory: each filled beside, and swapped into its place.

A set in the kernel carries no mark. One of ours has a file of its own in :data:`FOLDER`, which says
what it should be and which a unit loads at boot; a set without one was made by somebody else.

The entries never come home: the node sends the digest of their sorted list, and of two that differ
a few examples. Entries with a time to live were added by others, and are left out of it.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from nodeprep import files, ipset, iptables
from nodeprep.ipset import Listed
from nodeprep.model import APPLY, Change, Fact, Facts, Finding, IpSet, Node, Status
from nodeprep.render import render
from nodeprep.sharing import Share, Unit
from nodeprep.shell import Script, words

NAME = "ipsets"
TITLE = "Ipsets"

HOME = "/etc/nodeprep"
FOLDER = f"{HOME}/ipsets.d"
SCRIPT = f"{HOME}/ipsets.sh"
RULES_SCRIPT = f"{HOME}/bypass-rules.sh"
UNIT = "/etc/systemd/system/nodeprep-ipsets.service"
UNIT_NAME = UNIT.rpartition("/")[2]

# --- desired --------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def file_of(wanted: IpSet) -> files.ManagedFile:
    """Return the file of a set: what ``ipset restore`` reads. A fleet shares one value of it."""
    values = {
        "mark": files.MARK,
        "name": wanted.name,
        "parameters": ipset.parameters(wanted),
        "entries": [ipset.added(wanted, entry) for entry in wanted.entries],
    }
    path = f"{FOLDER}/{wanted.name}"
    return files.ManagedFile(path=path, content=render("ipset.j2", values), shown=False)


@lru_cache(maxsize=256)
def digest_of(wanted: IpSet) -> str:
    """Return the SHA-256, in hex, of the entries as a node lists them: sorted, one a line."""
    return hashlib.sha256("".join(f"{entry}\n" for entry in wanted.entries).encode()).hexdigest()


def _helpers(node: Node) -> tuple[files.ManagedFile, files.ManagedFile]:
    """Return the script that loads sets, and the unit that runs it at boot."""
    values = {
        "mark": files.MARK,
        "folder": FOLDER,
        "script": SCRIPT,
        "rules": RULES_SCRIPT,
        "loading": ipset.LOADING,
        "proxy_unit": node.desired.kube_proxy.unit_name,
    }
    unit = render("nodeprep-ipsets.service.j2", values)
    return (
        files.ManagedFile(path=SCRIPT, content=render("ipsets.sh.j2", values)),
        files.ManagedFile(path=UNIT, content=unit),
    )


# --- facts ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class InKernel:
    """A set in the kernel: ``digest`` is the SHA-256 of its sorted entries, in hex.

    Where that is not the wanted one, ``more`` and ``less`` count the entries that the file of the
    set has not, and those that only it has; ``examples`` are up to five of each, as ``+10.0.0.1``.
    ``our_rules`` counts the rules on our record that match it.
    """

    listed: Listed
    entries: int = 0
    digest: str = ""
    more: int = 0
    less: int = 0
    examples: tuple[str, ...] = ()
    our_rules: int = 0


@dataclass(frozen=True, kw_only=True)
class Sets:
    """The sets that were asked for and are there, by name; ``ours`` are those that have a file.

    ``unit`` is the state of our unit's file, ``None`` where systemd does not run.
    """

    there: Mapping[str, InKernel]
    ours: frozenset[str] = frozenset()
    unit: str | None = None


# ipset loads the kernel's part of it, and looking must not change anything.
_PROBE = f"""\
{iptables.MAY_LOOK}\
wanted=%(names)s
ours=
for file in {FOLDER}/*; do
  if [ -f "$file" ] && IFS= read -r first <"$file"; then
    case $first in *"{files.MARK}"*) ours="$ours ${{file##*/}}" ;; esac
  fi
done
see() {{
  head=$(ipset list -t "$1") || return 0
  printf '%%s\\n' "$head"
  [ "$2" ] || {{
    echo "Rules: $(grep -cF -e "--match-set $1 " {HOME}/bypass-rules)"
    return
  }}
  entries=$(ipset save "$1" |
    sed -n -e '/ timeout [1-9]/d' -e 's/ timeout 0//' -e 's/^add [^ ]* //p' | sort)
  [ -z "$entries" ] || entries="$entries
"
  digest=$(printf %%s "$entries" | sha256sum)
  echo "Digest: ${{digest%%%% *}}"
  echo "Entries: $(printf %%s "$entries" | wc -l)"
  [ "${{digest%%%% *}}" = "$2" ] || [ ! -f "{FOLDER}/$1" ] || printf %%s "$entries" | awk '
    NR == FNR {{
      if (sub(/^add [^ ]* /, "")) {{ sub(/ timeout 0/, ""); file[++n] = $0; left[$0] = 1 }}
      next
    }}
    $0 in left {{ delete left[$0]; next }}
    {{ if (++more <= 5) print "Example: +" $0 }}
    END {{
      for (i = 1; i <= n; i++) if (file[i] in left && ++less <= 5) print "Example: -" file[i]
      print "More: " more + 0
      print "Less: " less + 0
    }}' "{FOLDER}/$1" -
}}
for name in $ours; do echo "Ours: $name"; done
unit_shown {UNIT_NAME}
printf '%%s\\n' "$shown"
if command -v ipset >/dev/null && may_look ip_set; then
  set -- %(sets)s
  while [ $# -gt 0 ]; do
    see "$1" "$2"
    shift 2
  done
  for name in $ours; do
    case " $wanted " in *" $name "*) ;; *) see "$name" '' ;; esac
  done
fi
:"""


def _script(node: Node) -> str:
    wanted = node.desired.ipsets
    if wanted is None:
        return ""
    pairs = (word for each in wanted for word in (each.name, digest_of(each)))
    names = " ".join(each.name for each in wanted)
    return _PROBE % {"names": words(names) if names else "''", "sets": words(*pairs)}


def parse(text: str) -> Sets:
    """Read ``Ours: NAME`` and the unit's state; then of each set what ipset and we say of it."""
    head, *found = re.split(r"^(?=Name: )", text, flags=re.MULTILINE)
    unit = re.search(r"^UnitFileState=(.*)$", head, re.MULTILINE)
    return Sets(
        there={seen.listed.name: seen for seen in map(_in_kernel, found)},
        ours=frozenset(re.findall(r"^Ours: (.+)$", head, re.MULTILINE)),
        unit=unit[1] if unit else None,
    )


def _in_kernel(text: str) -> InKernel:
    said = dict(re.findall(r"^([A-Z][a-z]+): (.*)$", text, re.MULTILINE))
    return InKernel(
        listed=ipset.parse_header(text),
        entries=int(said.get("Entries", 0)),
        digest=said.get("Digest", ""),
        more=int(said.get("More", 0)),
        less=int(said.get("Less", 0)),
        examples=tuple(re.findall(r"^Example: (.+)$", text, re.MULTILINE)),
        our_rules=int(said.get("Rules", 0)),
    )


SETS = Fact(name="ipsets", script=_script, parse=parse)
FACTS = (SETS,)


def share(node: Node) -> Share:
    """Return what is asked together with other topics."""
    return Share(units=(Unit(name=UNIT_NAME),) if node.desired.ipsets is not None else ())


# --- comparing ------------------------------------------------------------------------------


def _refusal(wanted: IpSet, facts: Facts, *, adopt: bool) -> tuple[str, str]:
    """Return why a set is left alone, and what to type; or two ''."""
    seen = facts[SETS].there.get(wanted.name)
    file = file_of(wanted)
    if files.refusal(file, facts.file(file.path), adopt=adopt)[0]:
        return f"its file {file.path} is refused", f"see {file.path}"
    if seen is None:
        return "", ""
    if not adopt and not facts.file(file.path).ours:
        return (
            "another hand made it",
            "choose another name, or set `adopt: true` for this node to take it over",
        )
    if ipset.is_other_kind(wanted, seen.listed) and seen.listed.references:
        why = f"it is {_kind(seen.listed)}, and {seen.listed.references} rules or sets refer to it"
        look = f"nodeprep rules --match {wanted.name}"
        return why, f"give the wanted set another name, or first remove what refers to it: {look}"
    return "", ""


def _difference(wanted: IpSet, seen: InKernel | None, *, file_is_right: bool) -> str:
    """Return what of a set in the kernel is not as wanted; nothing where it is."""
    if seen is None:
        return "not there"
    if ipset.is_other_kind(wanted, seen.listed):
        return _kind(seen.listed)
    if wrong := ipset.differences(wanted, seen.listed):
        return ", ".join(wrong)
    if seen.digest == digest_of(wanted):
        return ""
    told = _count(seen.entries)
    if not file_is_right or not seen.more + seen.less:
        return f"{told}, not those that are wanted"
    return f"{told}, {seen.more} too many, {seen.less} missing: {', '.join(seen.examples)}"


def _kind(there: IpSet | Listed) -> str:
    family = there.family if isinstance(there, IpSet) else there.parameters.get("family", "")
    return f"{there.type} {family}".rstrip()


def _count(entries: int) -> str:
    return f"{entries} {'entry' if entries == 1 else 'entries'}"


def _stale(node: Node, facts: Facts) -> tuple[str, ...]:
    """Return the names of sets that are ours and that the inventory no longer names."""
    names = {wanted.name for wanted in node.desired.ipsets or ()}
    return tuple(sorted(facts[SETS].ours - names))


def _held(name: str, facts: Facts) -> bool:
    """Tell whether something that is not on our record refers to a set."""
    seen = facts[SETS].there.get(name)
    return bool(seen and seen.listed.references > seen.our_rules)


def _refused_helper(node: Node, facts: Facts) -> str:
    adopt = node.desired.adopt
    refusals = (f for f in _helpers(node) if files.refusal(f, facts.file(f.path), adopt=adopt)[0])
    return next((file.path for file in refusals), "")


# --- the contract ---------------------------------------------------------------------------


def paths(node: Node) -> tuple[str, ...]:
    """Return the script, the unit, and the file of each set."""
    wanted = node.desired.ipsets
    if wanted is None:
        return ()
    return SCRIPT, UNIT, *(f"{FOLDER}/{each.name}" for each in wanted)


def secrets(node: Node) -> tuple[str, ...]:
    """Return the files of the sets: they may be large, and their digest tells enough."""
    return paths(node)[2:]


def changes(node: Node, facts: Facts) -> tuple[Change, ...]:
    """Write what differs and load it; remove what the inventory no longer names."""
    wanted, stale = node.desired.ipsets, _stale(node, facts)
    if wanted is None or _refused_helper(node, facts):
        return ()
    helpers = _helpers(node) if wanted or stale else ()
    return (
        *filter(None, (_written(file, node, facts) for file in helpers)),
        *(change for each in wanted for change in _of_set(each, node, facts)),
        *(_ENABLE if wanted and _to_enable(node, facts) else ()),
        *(_remove(name) for name in stale if not _held(name, facts)),
        *(_RETIRE if _is_done(node, facts) else ()),
    )


def _written(file: files.ManagedFile, node: Node, facts: Facts) -> Change | None:
    return files.change(NAME, file, facts.file(file.path), adopt=node.desired.adopt)


def _of_set(wanted: IpSet, node: Node, facts: Facts) -> Iterator[Change]:
    if _refusal(wanted, facts, adopt=node.desired.adopt)[0]:
        return
    count = _count(len(wanted.entries))
    written = _written(file_of(wanted), node, facts)
    if written:
        yield replace(written, summary=f"{written.summary} ({count})")
    was = _difference(wanted, facts[SETS].there.get(wanted.name), file_is_right=not written)
    if was or written:
        summary = f"load the ipset {wanted.name}, {count}" + (f" (now: {was})" if was else "")
        action = f"sh {SCRIPT} load {words(wanted.name)}"
        yield _step(wanted.name, summary, action)


def _to_enable(node: Node, facts: Facts) -> bool:
    state = facts[SETS].unit
    new = bool(_written(_helpers(node)[1], node, facts))
    return state not in (None, "masked") and (new or state != "enabled")


def _remove(name: str) -> Change:
    summary = f"remove the ipset {name}, after nodeprep's rules that match it (not wanted any more)"
    return _step(name, summary, f"sh {SCRIPT} remove {words(name)}")


def _is_done(node: Node, facts: Facts) -> bool:
    """Tell whether nothing is wanted any more, and what once loaded sets has had its time."""
    stale = _stale(node, facts)
    if node.desired.ipsets or any(_held(name, facts) for name in stale):
        return False
    return bool(stale) or any(facts.file(path).ours for path in (SCRIPT, UNIT))


def _step(subject: str, summary: str, action: str) -> Change:
    return Change(topic=NAME, subject=subject, summary=summary, action=Script(action))


_ENABLE = (_step("enable", f"enable {UNIT_NAME}", f"systemctl enable {UNIT_NAME}"),)
_RETIRE = (
    _step(
        "retire",
        f"remove {UNIT_NAME}, which has no set left to load",
        f"if command -v systemctl >/dev/null; then systemctl disable {UNIT_NAME}; fi\n"
        f"rm -f -- {SCRIPT} {UNIT}",
    ),
)


# --- findings -------------------------------------------------------------------------------


def findings(node: Node, facts: Facts) -> tuple[Finding, ...]:
    """Say how each set stands, now and at the next boot, and what is left of others of ours."""
    wanted = node.desired.ipsets
    if wanted is None:
        return ()
    refused = _refused_helper(node, facts)
    found = (
        *(each for one in wanted for each in _findings_of(one, node, facts)),
        *(_left(name, facts) for name in _stale(node, facts)),
        *(_at_boot(node, facts) if wanted else _retired(node, facts)),
    )
    remedy = f"see {refused} first" if refused else APPLY
    return tuple(replace(f, hint=remedy) if f.hint == APPLY else f for f in found)


def _findings_of(wanted: IpSet, node: Node, facts: Facts) -> Iterator[Finding]:
    file, adopt = file_of(wanted), node.desired.adopt
    judged = files.finding(NAME, file, facts.file(file.path), adopt=adopt)
    why, hint = _refusal(wanted, facts, adopt=adopt)
    is_right = judged.status is Status.OK
    was = _difference(wanted, facts[SETS].there.get(wanted.name), file_is_right=is_right)
    told = f"{_kind(wanted)}, {_count(len(wanted.entries))}"
    if why:
        yield _finding(wanted.name, Status.FAIL, why, told, hint)
    elif was:
        yield _finding(wanted.name, Status.FAIL, was, told, APPLY)
    else:
        yield _finding(wanted.name, Status.OK, told)
    if not why or judged.hint != APPLY:
        yield judged


def _left(name: str, facts: Facts) -> Finding:
    held = f"nodeprep rules --match {name}, and remove what is not nodeprep's"
    actual = "the inventory no longer names it"
    if _held(name, facts):
        actual += ", and a rule or set that is not nodeprep's refers to it"
    hint = held if _held(name, facts) else APPLY
    return _finding(name, Status.FAIL, actual, "removed", hint)


def _at_boot(node: Node, facts: Facts) -> Iterator[Finding]:
    for file in _helpers(node):
        yield files.finding(NAME, file, facts.file(file.path), adopt=node.desired.adopt)
    unit = facts[SETS].unit
    if unit == "enabled":
        yield _finding("at boot", Status.OK, f"{UNIT_NAME} is enabled")
    elif unit is None:
        image = node.desired.kube_proxy.run == "never"
        hint = f"let the system's own init run `sh {SCRIPT} load` before its firewall"
        status = Status.SKIP if image else Status.FAIL
        yield _finding("at boot", status, "systemd does not run here", "loaded", hint)
    else:
        hint = f"systemctl unmask {UNIT_NAME}" if unit == "masked" else APPLY
        yield _finding("at boot", Status.FAIL, unit or "no such unit", "enabled", hint)


def _retired(node: Node, facts: Facts) -> Iterator[Finding]:
    if _is_done(node, facts):
        yield _finding("at boot", Status.FAIL, f"{UNIT_NAME} has no set left", "removed", APPLY)


def _finding(name: str, status: Status, actual: str, wanted: str = "", hint: str = "") -> Finding:
    wanted = "" if status is Status.OK else wanted
    return Finding(topic=NAME, name=name, status=status, actual=actual, wanted=wanted, hint=hint)
