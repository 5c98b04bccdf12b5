"""iptables on a node: both of its backends, looked at without changing anything, and its rules.

A node may have rules in two places at once: ``nft``, where iptables is a view of nf_tables, and
``legacy``, the kernel's older tables. Which of them a program writes depends on its name; ``own``
is the one that plain ``iptables`` writes.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from nodeprep.shell import Script, join, quote, words

Backend = Literal["nft", "legacy"]
BACKENDS: tuple[Backend, ...] = ("nft", "legacy")

BUILT_IN: Mapping[str, tuple[str, ...]] = {
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "raw": ("PREROUTING", "OUTPUT"),
}
"""The tables, and the chains that the kernel itself goes through; see iptables(8)."""

# A module that is not loaded, and could be, is the one that looking would load. What modules.dep
# does not name is built in or not to be had.
MAY_LOOK = """\
may_look() {
  grep -qs "^$1 " /proc/modules || ! grep -qs "/$1[.]ko" "/lib/modules/$(uname -r)/modules.dep"
}
"""
"""Defines ``may_look MODULE``: whether what needs a module may be asked without loading it."""

PROGRAMS = """\
rules_program() {
  if command -v "$1-$2${3:+-$3}" >/dev/null; then
    echo "$1-$2${3:+-$3}"
    return
  fi
  case $("$1" --version 2>/dev/null) in
    *nf_tables*) [ "$2" = nft ] ;;
    *" v"*) [ "$2" = legacy ] ;;
    *) false ;;
  esac && echo "$1${3:+-$3}"
}
iptables_of() { if [ "$1" = 4 ]; then echo iptables; else echo ip6tables; fi; }
"""
"""Defines ``rules_program iptables|ip6tables BACKEND [save|restore]``, a program's name here, and
``iptables_of FAMILY``."""

# A legacy table is made by the first look at it.
TABLES_OF = """\
tables_of() {
  if [ "$1" = 4 ]; then tables=ip_tables_names; else tables=ip6_tables_names; fi
  cat "/proc/net/$tables" 2>/dev/null
}
"""
"""Defines ``tables_of FAMILY``: the legacy tables that there are."""

LOOKING = f"""\
{MAY_LOOK}{PROGRAMS}{TABLES_OF}\
may_look_at_rules() {{
  case $1 in
    nft) may_look nf_tables ;;
    *) tables_of "$2" | grep -q . ;;
  esac
}}
saved_rules() {{
  may_look_at_rules "$1" "$2" && save=$(rules_program "$(iptables_of "$2")" "$1" save) || return 0
  "$save" ${{3:+-t "$3"}} 2>/dev/null || printf '\\n# unread\\n'
}}
"""
"""Defines ``saved_rules BACKEND FAMILY [TABLE]``: what iptables-save prints, or nothing where
looking would load a module or make a table; and all of the above."""

REMOVING = f"""\
{PROGRAMS}\
remove_rule() {{
  list=$(rules_program "$(iptables_of "$2")" "$1") || return
  restore=$(rules_program "$(iptables_of "$2")" "$1" restore) || return
  "$list" --wait=5 -t "$3" -S "$4" 2>/dev/null | grep -qxF -e "-A $4 $5" || return 0
  printf '*%s\\n-D %s %s\\nCOMMIT\\n' "$3" "$4" "$5" | "$restore" --noflush --wait=5
}}
"""
"""Defines ``remove_rule BACKEND FAMILY TABLE CHAIN RULE``: removes a rule that is still there.

RULE is what iptables-save prints behind the chain. A number would name another rule as soon as
somebody adds one before it.
"""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule as iptables prints it: ``text`` is all behind the chain. ``number`` counts from 1."""

    backend: str
    family: int
    table: str
    chain: str
    number: int
    text: str

    @property
    def comment(self) -> str:
        """The rule's comment, or nothing."""
        return comment_of(self.text)

    @property
    def target(self) -> str:
        """Where the rule jumps or goes to with its last two words, or nothing.

        What a comment says is never taken for a target: one with spaces ends with a quote.
        """
        found = re.search(r'(?:^| )-[jg] ([^\s"]+)$', self.text)
        return found[1] if found else ""

    @property
    def matches_set(self) -> bool:
        """Whether the rule looks into an ipset."""
        return "--match-set " in self.text

    def __str__(self) -> str:
        return f"{self.table} {self.chain} ({self.place})"

    @property
    def place(self) -> str:
        """Which rules these are, of the four that a node may have."""
        return f"IPv{self.family}, {self.backend} backend"


def comment_of(text: str) -> str:
    """Return the comment of a rule as iptables prints it, or nothing.

    >>> comment_of('-m comment --comment "my own" -j RETURN')
    'my own'
    """
    found = re.search(r'--comment (?:"((?:[^"\\]|\\.)*)"|(\S+))', text)
    return re.sub(r"\\(.)", r"\1", found[1] or found[2] or "") if found else ""


def is_same(one: str, other: str) -> bool:
    """Tell whether two texts are one rule: some releases quote a comment that others do not."""
    return one.replace('"', "") == other.replace('"', "")


def quoted(comment: str) -> str:
    """Return a comment without quotes or backslashes as iptables prints it.

    >>> quoted("my-set"), quoted("my.set")
    ('my-set', '"my.set"')
    """
    return comment if re.fullmatch("[A-Za-z0-9_-]*", comment) else f'"{comment}"'


def removal(rules: Iterable[Rule]) -> Script:
    """Return statements that remove just these rules, each by all that it says."""
    steps = [
        Script(f"remove_rule {words(rule.backend, str(rule.family), rule.table, rule.chain)} ")
        + quote(rule.text)
        for rule in rules
    ]
    return Script(REMOVING) + join(steps, " &&\n")
