"""How an allow-list becomes a type: ``str`` with a check attached, for pydantic and for editors."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from nodeprep.inventory.characters import shown


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a check may know of the controller: where paths begin, and the files that are there.

    ``read`` returns a file's bytes; it raises OSError.
    """

    home: Path
    base: Path
    is_file: Callable[[Path], bool]
    read: Callable[[Path], bytes]


@dataclass(frozen=True)
class Matching:
    """Text that ``pattern`` matches whole; ``allowed`` says the same to a person."""

    pattern: str
    allowed: str
    longest: int = 253

    def checked(self, text: str) -> str:
        """Return ``text`` as it is. Raises ValueError where it is not allowed."""
        if len(text) > self.longest:
            raise ValueError(f"{shown(text)} is too long: at most {self.longest} characters")
        if not re.fullmatch(self.pattern, text):
            raise ValueError(f"{shown(text)} is not allowed here: {self.allowed}")
        return text

    def __get_pydantic_core_schema__(
        self, source: type[str], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.checked, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        limits = {"pattern": f"^(?:{self.pattern})$", "maxLength": self.longest}
        return {**handler(schema), **limits}


@dataclass(frozen=True)
class OrOne:
    """A list that may also be written as its only item: the JSON Schema of it."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        many = handler(schema)
        return {"anyOf": [many["items"], many]}


@dataclass(frozen=True, eq=False)
class Hint:
    """JSON Schema keywords for a type whose real check is a function: a first help in an editor."""

    keywords: JsonSchemaValue

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), **self.keywords}
