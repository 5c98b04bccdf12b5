"""Change a few settings in the text of a KubeProxyConfiguration, and not one other byte of it.

The text is a person's: comments, order, quotes and fields that nodeprep does not know stay as they
are. YAML's own parser says where each value stands, only there something is written, and the result
is read again: it must say what was asked, and nothing else may have changed.
"""

import copy
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from nodeprep.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a text says, or what it should say; ``None`` is for a setting that is not there.

    The names are those of KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1).
    """

    mode: str | None = None
    scheduler: str | None = None
    strict_arp: bool | None = None
    exclude_cidrs: tuple[str, ...] | None = None
    cluster_cidr: str | None = None

    @property
    def effective_mode(self) -> str:
        """The mode that kube-proxy takes by it: iptables where none is named."""
        return self.mode or "iptables"

    @property
    def effective_scheduler(self) -> str:
        """The IPVS scheduler that it takes by it."""
        return self.scheduler or "rr"


class ConfigTextError(UsageError):
    """A text that cannot be read, or that cannot be changed without touching more of it."""


def read(text: str) -> Settings:
    """Return what a text says. Raises ConfigTextError where it is no KubeProxyConfiguration."""
    values = _values(text)
    ipvs = values.get("ipvs") or {}
    if not isinstance(ipvs, dict):
        raise _refusal("`ipvs` is not a mapping")
    cidrs = ipvs.get("excludeCIDRs")
    return Settings(
        mode=_word(values, "mode"),
        scheduler=_word(ipvs, "scheduler"),
        strict_arp=ipvs.get("strictARP"),
        exclude_cidrs=None if cidrs is None else tuple(map(str, cidrs)),
        cluster_cidr=_word(values, "clusterCIDR"),
    )


def edited(text: str, wish: Settings) -> str:
    """Return the text with what ``wish`` sets; where it already says so, it is the same text.

    ``cluster_cidr`` is not nodeprep's to write. Raises ConfigTextError where the text is not a
    single mapping, has an alias or a key twice, or writes a value in a form that is not known here.
    """
    root, before = _parsed(text)
    _refuse_aliases(root)
    edits = [*_of_mapping(text, root, _asked(mode=wish.mode))]
    ipvs = _asked(
        scheduler=wish.scheduler,
        strictARP=wish.strict_arp,
        excludeCIDRs=None if wish.exclude_cidrs is None else list(wish.exclude_cidrs),
    )
    if ipvs:
        edits += _of_ipvs(text, root, ipvs, before.get("ipvs") or {})
    result = _applied(text, edits)
    _check(before, result, _asked(mode=wish.mode), ipvs)
    return result


def _asked(**settings: Any) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if value is not None}


# --- reading --------------------------------------------------------------------------------


def _values(text: str) -> dict[str, Any]:
    return _parsed(text)[1]


def _parsed(text: str) -> tuple[yaml.MappingNode, dict[str, Any]]:
    """Return the tree of a text, whose marks say where each value stands, and its values."""
    loader = yaml.SafeLoader(_scannable(text))
    try:
        documents = []
        while loader.check_node():
            documents.append(loader.get_node())
        roots = [each for each in documents if getattr(each, "value", None)]
        values = [loader.construct_document(each) for each in roots]
    except (yaml.YAMLError, ValueError) as error:
        raise _refusal(f"it is no YAML: {' '.join(str(error).split())}") from error
    finally:
        loader.dispose()
    if len(roots) != 1:
        raise _refusal(f"it has {len(roots)} documents, and one is wanted")
    if not isinstance(roots[0], yaml.MappingNode):
        raise _refusal("it is not a mapping of keys to values", roots[0])
    return roots[0], values[0]


def _scannable(text: str) -> str:
    """Return a text of the same length for PyYAML, which takes no tab between value and comment.

    Kubernetes' own parser does, and so does the standard (YAML 1.2, 6.2 and 6.6).
    """
    return re.sub(r"[ \t]+(?=#|\r?$)", lambda gap: " " * len(gap[0]), text, flags=re.MULTILINE)


def _word(values: dict[str, Any], key: str) -> str | None:
    value = values.get(key)
    return None if value is None else str(value)


def _refuse_aliases(root: yaml.Node) -> None:
    # The marks of an alias are those of the value that it stands for, somewhere else in the text.
    seen: set[int] = set()
    rest: list[yaml.Node] = [root]
    while rest:
        node = rest.pop()
        if id(node) in seen:
            raise _refusal("a value has an alias (*name): write it out there", node)
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            rest += [each for entry in node.value for each in entry]
        elif isinstance(node, yaml.SequenceNode):
            rest += node.value


def _entries(mapping: yaml.MappingNode) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    entries: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    for key, value in mapping.value:
        name = str(key.value)
        if name in entries:
            raise _refusal(f"`{name}` stands in it twice", key)
        entries[name] = (key, value)
    return entries


# --- writing --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Edit:
    """New text for the characters from ``start`` up to ``end``."""

    start: int
    end: int
    text: str


def _applied(text: str, edits: Sequence[_Edit]) -> str:
    for edit in sorted(edits, key=lambda each: (each.start, each.end), reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def _of_ipvs(
    text: str, root: yaml.MappingNode, wanted: dict[str, Any], values: object
) -> Iterator[_Edit]:
    known = values if isinstance(values, dict) else {}
    # What is asked for and is so by default needs no new line in somebody's file.
    wanted = {
        key: value
        for key, value in wanted.items()
        if key in known or value != {"scheduler": "rr", "strictARP": False}.get(key, [])
    }
    entry = _entries(root).get("ipvs")
    if not wanted:
        return
    if entry is None:
        yield _new_entries(text, root, {"ipvs": wanted})
    elif isinstance(entry[1], yaml.MappingNode):
        yield from _of_mapping(text, entry[1], wanted)
    elif isinstance(entry[1], yaml.ScalarNode) and not values:
        yield _at(text, entry[1], _flow(wanted))
    else:
        raise _refusal("`ipvs` is not a mapping", entry[1])


def _of_mapping(text: str, mapping: yaml.MappingNode, wanted: dict[str, Any]) -> Iterator[_Edit]:
    entries = _entries(mapping)
    for key, value in wanted.items():
        if key in entries:
            yield from _of_value(text, entries[key], value)
    new = {key: value for key, value in wanted.items() if key not in entries}
    if new:
        yield _new_entries(text, mapping, new)


def _of_value(text: str, entry: tuple[yaml.Node, yaml.Node], wanted: Any) -> Iterator[_Edit]:
    key, node = entry
    if isinstance(node, yaml.SequenceNode) and isinstance(wanted, list):
        yield from _of_sequence(text, key, node, wanted)
    elif isinstance(node, yaml.ScalarNode):
        if _loaded(text, node) != wanted or not isinstance(_loaded(text, node), type(wanted)):
            yield _at(text, node, _like(node, wanted))
    else:
        raise _refusal(f"`{key.value}` has a value of an unknown form", node)


def _loaded(text: str, node: yaml.ScalarNode) -> Any:
    if node.start_mark.index == node.end_mark.index:
        return None
    return yaml.safe_load(text[node.start_mark.index : node.end_mark.index])


def _at(text: str, node: yaml.ScalarNode, new: str) -> _Edit:
    if node.style in {"|", ">"}:
        raise _refusal("a value is written over several lines (| or >): write it in one", node)
    start, end = node.start_mark.index, node.end_mark.index
    # A key without a value ends with its colon.
    gap = " " if start == end and not text[:start].endswith((" ", "\t")) else ""
    return _Edit(start=start, end=end, text=gap + new)


def _like(node: yaml.ScalarNode, value: Any) -> str:
    """Write a value in the quotes of the one that it replaces."""
    if isinstance(value, str) and node.style == "'":
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, str) and node.style == '"':
        return json.dumps(value)
    return _flow(value) if isinstance(value, list) else _plain(value)


def _plain(value: Any) -> str:
    simple = isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", value)
    return value if simple and yaml.safe_load(value) == value else json.dumps(value)


def _flow(value: Any) -> str:
    # JSON is YAML: so it may stand in either.
    return json.dumps(value)


# --- entries that are not there yet ---------------------------------------------------------


def _new_entries(text: str, mapping: yaml.MappingNode, new: dict[str, Any]) -> _Edit:
    if mapping.flow_style:
        return _in_braces(text, mapping, new)
    eol = "\r\n" if "\r\n" in text else "\n"
    indent = " " * mapping.value[0][0].start_mark.column
    lines = [line for key, value in new.items() for line in _block(key, value)]
    after = _last_line(mapping)
    if after is not None:
        # At the end of a line, behind its comment: so none is parted from what it stands above.
        end = _line_end(text, after.end_mark.index)
        return _Edit(start=end, end=end, text="".join(f"{eol}{indent}{line}" for line in lines))
    start = mapping.value[0][0].start_mark.index
    if text[:start].rpartition("\n")[2].strip(" \ufeff"):
        raise _refusal("its first key does not begin a line", mapping.value[0][0])
    return _Edit(start=start, end=start, text="".join(f"{line}{eol}{indent}" for line in lines))


def _block(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield f"{key}:"
        yield from (f"  {line}" for inner in value.items() for line in _block(*inner))
    else:
        yield f"{key}: {_flow(value) if isinstance(value, list) else _plain(value)}"


def _last_line(mapping: yaml.MappingNode) -> yaml.Node | None:
    """Return the last value that stands on one line with its key."""
    fitting = [
        value
        for key, value in mapping.value
        if key.start_mark.line == value.start_mark.line == value.end_mark.line
        and (isinstance(value, yaml.ScalarNode) or value.flow_style)
        and getattr(value, "style", None) not in {"|", ">"}
    ]
    return fitting[-1] if fitting else None


def _line_end(text: str, index: int) -> int:
    found = re.compile(r"\r?\n|\Z").search(text, index)
    return found.start() if found else len(text)


def _in_braces(text: str, mapping: yaml.MappingNode, new: dict[str, Any]) -> _Edit:
    start = mapping.start_mark.index
    if text[start] != "{":
        raise _refusal("a mapping has a tag or an anchor before it", mapping)
    inner = ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in new.items())
    separator = ", " if mapping.value else ""
    return _Edit(start=start + 1, end=start + 1, text=inner + separator)


# --- lists ----------------------------------------------------------------------------------


def _of_sequence(
    text: str, key: yaml.Node, node: yaml.SequenceNode, wanted: list[str]
) -> Iterator[_Edit]:
    items = node.value
    if not all(isinstance(item, yaml.ScalarNode) for item in items):
        raise _refusal(f"`{key.value}` has an item that is no word", node)
    if [item.value for item in items] == wanted:
        return
    if node.flow_style:
        start, end = node.start_mark.index, node.end_mark.index
        if "#" in text[start:end]:
            raise _refusal(f"`{key.value}` has a comment within its brackets", node)
        yield _Edit(start=start, end=end, text=_flow(wanted))
        return
    yield from _of_items(text, key, node, wanted)


def _of_items(
    text: str, key: yaml.Node, node: yaml.SequenceNode, wanted: list[str]
) -> Iterator[_Edit]:
    items = node.value
    for item, value in zip(items, wanted, strict=False):
        if item.value != value:
            yield _at(text, item, _like(item, value))
    if not wanted:
        end = text.index(":", key.end_mark.index) + 1
        yield _Edit(start=end, end=end, text=" []")
    for item in items[len(wanted) :]:
        yield _without(text, item)
    if len(wanted) > len(items):
        eol = "\r\n" if "\r\n" in text else "\n"
        end = _line_end(text, items[-1].end_mark.index)
        indent = " " * node.start_mark.column
        new = "".join(f"{eol}{indent}- {_plain(value)}" for value in wanted[len(items) :])
        yield _Edit(start=end, end=end, text=new)


def _without(text: str, item: yaml.Node) -> _Edit:
    """Take an item away with its line; a comment behind it stays."""
    begin = text.rfind("\n", 0, item.start_mark.index) + 1
    end = _line_end(text, item.end_mark.index)
    rest = text[item.end_mark.index : end].strip()
    dash = text.index("-", begin)
    if text[begin:dash].strip() or text[dash + 1 : item.start_mark.index].strip():
        raise _refusal("an item of a list does not begin its line", item)
    if rest:
        return _Edit(start=dash, end=text.index(rest, item.end_mark.index), text="")
    # With the line's beginning, not with its end: the last line of a text may have none.
    above = begin - len(re.findall(r"\r?\n\Z", text[:begin])[0]) if begin else 0
    return _Edit(start=above, end=end, text="")


# --- trust nothing --------------------------------------------------------------------------


def _check(before: dict[str, Any], text: str, top: dict[str, Any], ipvs: dict[str, Any]) -> None:
    after, wanted = _values(text), copy.deepcopy(before)
    wanted.update(top)
    for values in (after, wanted):
        inner = values.get("ipvs") or {}
        if not isinstance(inner, dict):
            raise _refusal("`ipvs` is not a mapping")
        values["ipvs"] = {"scheduler": "rr", "strictARP": False, "excludeCIDRs": [], **inner}
    wanted["ipvs"].update(ipvs)
    if json.dumps(after, default=repr, sort_keys=True) != json.dumps(
        wanted, default=repr, sort_keys=True
    ):
        raise _refusal("its settings cannot be changed without touching others")


def _refusal(what: str, node: yaml.Node | None = None) -> ConfigTextError:
    where = f", line {node.start_mark.line + 1}" if node is not None else ""
    return ConfigTextError(
        f"kube-proxy's config.conf{where}: {what}",
        hint="see it with: kubectl -n kube-system get configmap kube-proxy -o yaml",
    )
