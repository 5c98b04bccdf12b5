"""The inventory's JSON Schema, by which an editor completes and checks while one types."""

from typing import Any

from nodeprep.inventory.schema import InventoryFile

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of an inventory.

    It is a little wider than the check itself: it knows neither folding nor other files.
    """
    schema = InventoryFile.model_json_schema()
    return {"$schema": DIALECT, **_plain(schema), "title": "nodeprep inventory"}


def _plain(schema: Any) -> Any:
    """Leave out what only pydantic needs, and let no key in whose pattern does not match."""
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {"additionalProperties": False} if "patternProperties" in schema else {}
    return closed | {key: _plain(value) for key, value in schema.items() if _tells(key, value)}


def _tells(key: str, value: object) -> bool:
    """Tell whether a keyword is more than a made-up title or a default that is none."""
    return not (key == "title" and isinstance(value, str)) and (key, value) != ("default", None)
