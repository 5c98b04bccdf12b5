"""What is wrong with each value of an inventory: pydantic finds it, this module words it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from nodeprep.inventory.allowed import Surroundings
from nodeprep.inventory.characters import shown
from nodeprep.inventory.places import NO_PASSWORD, Document, Fault, Mark, Path
from nodeprep.inventory.schema import (
    Bounded,
    BypassRuleEntry,
    ClusterBlock,
    InventoryFile,
    IpSetEntry,
    KubectlBlock,
    KubeProxyBlock,
    NodeEntry,
    PasswordPlace,
    Settings,
    SshBlock,
    SudoByPassword,
    Value,
)
from nodeprep.inventory.suggesting import suggestion

_KEY = "[key]"
"""How pydantic marks that an error is about a key, at the end of its path."""

_TEXT = "text"
_WANTED = {
    "bool_type": "true or false",
    "dict_type": "a mapping (key: value)",
    "int_type": "a whole number",
    "model_type": "a mapping (key: value)",
    "string_type": _TEXT,
    "tuple_type": "a list",
}


def validated(
    document: Document, around: Surroundings
) -> tuple[InventoryFile | None, tuple[Fault, ...]]:
    """Return the file's values, or what is wrong with each of them.

    Nothing more is said about a value that was refused while reading.
    """
    value = {} if document.value is None else document.value
    try:
        return InventoryFile.model_validate(value, context=around), ()
    except ValidationError as error:
        faults = map(_fault, _telling(error.errors(include_url=False)))
        return None, tuple(fault for fault in faults if not document.is_refused(fault.path))


def _telling(details: Sequence[ErrorDetails]) -> Iterator[ErrorDetails]:
    """Leave out what follows from something else: a key is missing where another is misspelt."""
    misspelt = {detail["loc"][:-1] for detail in details if detail["type"] == "extra_forbidden"}
    for detail in details:
        if detail["type"] != "missing" or detail["loc"][:-1] not in misspelt:
            yield detail


def _fault(detail: ErrorDetails) -> Fault:
    path: Path = detail["loc"]
    if detail["type"] == "missing":
        return Fault(path[:-1], f"the key `{path[-1]}` is missing")
    at_key = path[-1:] == (_KEY,) or detail["type"] == "extra_forbidden"
    return Fault(path, _message(detail, path), at_key, _elsewhere(detail))


def _elsewhere(detail: ErrorDetails) -> tuple[str, Mark] | None:
    if detail["type"] != "elsewhere":
        return None
    file, line, column = (detail["ctx"][key] for key in ("file", "line", "column"))
    return file, (line, column)


def _message(detail: ErrorDetails, path: Path) -> str:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return _unknown(str(path[-1]), block_at(path[:-1]).model_fields)
        case "value_error":
            return str(context["error"])
        case "wanted" | "elsewhere":
            return detail["msg"]
        case "literal_error":
            return _not_a_choice(detail["input"], str(context["expected"]), path)
        case kind if kind in _WANTED:
            return _of_another_kind(_WANTED[kind], detail["input"], path)
        case _:
            return f"{_described(detail['input'])} is not allowed here: {detail['msg']}"


def _unknown(key: str, known: Iterable[str]) -> str:
    meant = suggestion(key, known)
    return f"unknown key {shown(key)}; {meant and meant + ' '}allowed: {', '.join(known)}"


def _of_another_kind(wanted: str, value: object, path: Path) -> str:
    if "sudo" in path:
        return f"{wanted} is wanted here"
    hint = ": write it in quotes" if wanted == _TEXT and not isinstance(value, list | dict) else ""
    return f"{wanted} is wanted here, not {_described(value)}{hint}"


def _not_a_choice(value: object, expected: str, path: Path) -> str:
    """Return what is allowed; what stands under ``sudo`` may be a password, and is not shown."""
    choices = expected.replace("'", "")
    if "password" in path:
        return NO_PASSWORD
    if "sudo" in path:
        return f"write {choices}, or {{password: ask}}"
    return f"{_described(value)} is not allowed here: write {choices}"


def _described(value: object) -> str:
    match value:
        case bool():
            return f"{value}".lower()
        case int():
            return f"the number {value}"
        case str():
            return shown(value)
        case list():
            return "a list"
        case _:
            return "a mapping"


_BLOCKS: Mapping[str, type[Value]] = {
    "ssh": SshBlock,
    "kube_proxy": KubeProxyBlock,
    "cluster": ClusterBlock,
    "kubectl": KubectlBlock,
}


def block_at(path: Path) -> type[Value]:
    """Return the class of the mapping at ``path``; what only a schema knows may stand in it."""
    match path:
        case ():
            return InventoryFile
        case ("defaults",) | ("groups", _):
            return Settings
        case ("nodes", _):
            return NodeEntry
        case (*_, str(last)) if last in _BLOCKS:
            return _BLOCKS[last]
        case (*_, "sysctls", _, _):
            return Bounded
        case (*_, "ipsets", _):
            return IpSetEntry
        case (*_, "bypass_rules", _):
            return BypassRuleEntry
        case (*_, "password", _):
            return PasswordPlace
        case _:
            return SudoByPassword
