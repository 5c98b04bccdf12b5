"""The part of Jinja that needs no Jinja: ``{{ name }}`` of a variable that is there.

Ansible's templates are programs; running one that a file brings is not what an import is asked
for. So a plain reference is followed, and anything else is told to the user.
"""

import re
from collections.abc import Mapping
from typing import Any

from nodeprep.importing.ansible.draft import Var
from nodeprep.inventory.characters import shown
from nodeprep.inventory.foreign import Tagged

DEEPEST = 10
"""How many references may lead from one to the next."""

_REFERENCE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_JINJA = re.compile(r"\{\{|\{%|\{#")


class UnresolvedError(ValueError):
    """A value that cannot be told here, and whether Ansible's vault has it."""

    def __init__(self, why: str, *, is_vault: bool = False) -> None:
        super().__init__(why)
        self.is_vault = is_vault


def resolved(value: Any, variables: Mapping[str, Var], depth: int = 0) -> Any:
    """Return a value with its references followed. Raises UnresolvedError, which says why not."""
    if isinstance(value, Tagged):
        is_vault = "vault" in value.tag
        what = "is in a vault" if is_vault else f"has the tag {shown(value.tag)}"
        raise UnresolvedError(what, is_vault=is_vault)
    if isinstance(value, list):
        return [resolved(item, variables, depth) for item in value]
    if not isinstance(value, str) or not _JINJA.search(value):
        return value
    if depth > DEEPEST:
        raise UnresolvedError("refers to itself")
    if whole := _REFERENCE.fullmatch(value.strip()):
        return _named(whole[1], variables, depth)
    text = _REFERENCE.sub(lambda found: str(_named(found[1], variables, depth)), value)
    if _JINJA.search(text):
        raise UnresolvedError("is a Jinja expression")
    return text


def _named(name: str, variables: Mapping[str, Var], depth: int) -> Any:
    if name not in variables:
        raise UnresolvedError("is a Jinja expression")
    return resolved(variables[name].value, variables, depth + 1)
