"""What is secret, read where it is kept: it goes to nodes from here, and never elsewhere."""

import dataclasses
import getpass
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from nodeprep.errors import UsageError
from nodeprep.model import Node
from nodeprep.shell import Secret

Passwords = Mapping[str, Secret]
"""Sudo passwords by the place that the inventory names; see ``model.Sudo.password``."""


def passwords(nodes: Sequence[Node]) -> Passwords:
    """Fetch each sudo password once, from where the inventory says it is.

    Raises UsageError where there is none to be had.
    """
    sources = {node.sudo.password for node in nodes if node.sudo.method == "password"}
    return {source: Secret(_password(source)) for source in sorted(sources)}


def _password(source: str) -> str:
    kind, _, place = source.partition(":")
    if kind in ("file", "fd"):
        text = _read(int(place) if kind == "fd" else place, "sudo: password", lines=1)
        if not text:
            raise UsageError(f"sudo: password: {source} is empty")
        return text.rstrip("\n")
    try:
        return getpass.getpass("sudo password on the nodes: ")
    except EOFError as error:
        raise UsageError(
            "no terminal to ask for the sudo password",
            hint="give it a `file` or a `descriptor` under `sudo: {password: ...}`",
        ) from error


def _read(path: str | int, setting: str, lines: int | None = None) -> str:
    try:
        # A number is a descriptor that is open already, and stays open.
        with open(path, closefd=not isinstance(path, int)) as stream:
            return "".join(itertools.islice(stream, lines))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{setting}: {path}: {error}") from error


def with_kubeconfig(node: Node) -> Node:
    """Return ``node`` with the content of its kubeconfig, where the inventory names a file here.

    Raises UsageError where it cannot be read.
    """
    proxy = node.desired.kube_proxy
    if proxy.kubeconfig_from is None or not proxy.has_unit:
        return node
    try:
        content = Secret(Path(proxy.kubeconfig_from).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"kubeconfig_from: {proxy.kubeconfig_from}: {error}") from error
    desired = dataclasses.replace(
        node.desired, kube_proxy=dataclasses.replace(proxy, kubeconfig_content=content)
    )
    return dataclasses.replace(node, desired=desired)
