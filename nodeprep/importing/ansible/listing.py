"""What ``ansible-inventory --list`` prints: groups, and the variables of each host, all merged."""

import json
from typing import Any

from nodeprep.importing.ansible.draft import ALL, UNGROUPED, Draft, Var
from nodeprep.importing.imported import Origin
from nodeprep.inventory.foreign import Tagged, decoded, failure

_META = "_meta"


def is_listing(value: Any) -> bool:
    """Tell whether a JSON document is one: it has the key ``_meta``."""
    return isinstance(value, dict) and _META in value


def parsed(text: bytes, file: str) -> Any:
    """Return the JSON document of ``text``. Raises InventoryError, which repeats nothing of it."""
    try:
        return json.loads(decoded(text, file))
    except json.JSONDecodeError as error:
        raise failure(file, error.lineno, f"this is not JSON: {error.msg}", error.colno) from None
    except RecursionError:
        raise failure(file, 1, "this is nested too deep") from None


def read(value: dict[str, Any], file: str, draft: Draft) -> None:
    """Add what a listing says to ``draft``: each host's variables are its own there."""
    origin = Origin(file)
    for name, content in value.items():
        if name != _META and isinstance(content, dict):
            group = draft.group(name)
            group.children.update({str(child): origin for child in _list(content, "children")})
            for host in _list(content, "hosts"):
                draft.host(str(host), name, None, origin)
    for child in {child for group in draft.groups.values() for child in group.children}:
        draft.group(child)
    meta = value[_META] if isinstance(value[_META], dict) else {}
    hostvars = meta.get("hostvars")
    for name, variables in (hostvars if isinstance(hostvars, dict) else {}).items():
        own = draft.hosts.get(name)
        if own is None:
            own = draft.host(str(name), UNGROUPED, None, origin)
        given = variables if isinstance(variables, dict) else {}
        own |= {key: Var(value=_plain(one), origin=origin) for key, one in given.items()}
    draft.groups[ALL].children.pop(ALL, None)


def _list(content: dict[str, Any], key: str) -> list[Any]:
    found = content.get(key)
    return found if isinstance(found, list) else []


def _plain(value: Any) -> Any:
    """Return a value; what ``ansible-inventory`` marks as a vault or as unsafe is told apart."""
    if isinstance(value, dict):
        if "__ansible_vault" in value:
            return Tagged("!vault")
        return value.get("__ansible_unsafe", value)
    return value
