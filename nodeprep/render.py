"""Templates to text: the only place that knows Jinja2.

Templates are ours, values are users': a value is never read as a template. A name that a template
uses and nobody gave is an error, not an empty string.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template


def render(template: str, values: Mapping[str, object]) -> str:
    """Return the named template filled with ``values``.

    Raises jinja2.UndefinedError for a value that is missing: that is a defect of nodeprep.
    """
    return _template(template).render(values)


def systemd_word(value: object) -> str:
    """Return ``value`` as one word of a systemd command line (systemd.service(5), COMMAND LINES).

    >>> systemd_word("100%")
    '100%%'
    """
    text = str(value).replace("%", "%%").replace("$", "$$")
    if re.fullmatch(r"[A-Za-z0-9_./:@%=,+$\[\]-]+", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def template_folder() -> Path:
    """Return where the templates are: inside an installed package, or beside it in a checkout."""
    installed = Path(str(files("nodeprep"))) / "templates"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "templates"


@cache
def _template(name: str) -> Template:
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    # What is rendered is no HTML: there is nothing to escape for a browser.
    environment = Environment(  # noqa: S701
        loader=FileSystemLoader(template_folder()),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # JSON strings are YAML strings, whatever they hold.
    environment.filters["yaml"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.filters["systemd"] = systemd_word
    return environment
