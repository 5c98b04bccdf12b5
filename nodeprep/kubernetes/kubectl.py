"""The words of kubectl: where it runs, which cluster it speaks with, and how long it may take.

No object and no secret is ever an argument of it: objects go through its standard input.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nodeprep.errors import UsageError
from nodeprep.model import Inventory, Node
from nodeprep.shell import Script, Secret, quote, words

HERE = ""
"""The place of the operator's own kubectl: the machine nodeprep itself runs on."""

ADMIN = "/etc/kubernetes/admin.conf"
"""Where kubeadm leaves a kubeconfig on each control-plane node."""

TIMEOUT = 30
"""Seconds that one request to the API server may take."""

NAMESPACE = "kube-system"


@dataclass(frozen=True, kw_only=True)
class Kubectl:
    """A kubectl: ``on`` names the inventory's node it runs on, and is empty for this machine.

    An empty ``kubeconfig`` or ``context`` leaves the choice to kubectl itself.
    """

    on: str = HERE
    kubeconfig: str = ""
    context: str = ""
    program: str = "kubectl"
    timeout: int = TIMEOUT

    def words(self, *arguments: str) -> str:
        """Return a whole command of sh, each argument quoted.

        >>> Kubectl(kubeconfig="/etc/kubernetes/admin.conf").words("get", "nodes")
        'kubectl --kubeconfig=/etc/kubernetes/admin.conf --request-timeout=30s get nodes'
        """
        chosen = [
            *([f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else []),
            *([f"--context={self.context}"] if self.context else []),
            f"--request-timeout={self.timeout}s",
        ]
        return words(self.program, *chosen, *arguments)

    def system(self, *arguments: str) -> str:
        """Return a command within the namespace kube-system."""
        return self.words("--namespace", NAMESPACE, *arguments)

    def create(self, document: Mapping[str, Any]) -> Script:
        """Return a command that creates an object and fails where there is one of that name."""
        return _given(document, self.system("create", "-f", "-", "-o", "name"))

    def replace(self, document: Mapping[str, Any]) -> Script:
        """Return a command that puts ``document`` in the place of the object of its name.

        The API server refuses it where the object is no longer the one
        of ``metadata.resourceVersion``. Raises ValueError where the document has none: it would
        overwrite whatever is there.
        """
        if not document["metadata"].get("resourceVersion"):
            raise ValueError("an object is replaced only as the one that was seen")
        # Without --raw, kubectl would write its own annotation (last-applied-configuration) anew.
        return _given(
            document, f"{self.words('replace', '--raw', _path(document), '-f', '-')} >/dev/null"
        )


def chosen(inventory: Inventory) -> Kubectl:
    """Return the kubectl that an inventory names, or that of its first control-plane node.

    Raises UsageError where it names none and no node is known to be of the control plane.
    """
    choice = inventory.kubectl
    context = choice.context or ""
    if choice.on == "here":
        return Kubectl(kubeconfig=choice.kubeconfig or "", context=context)
    on = choice.on or next((node.name for node in inventory.nodes if _controls(node)), None)
    if on is None:
        raise UsageError(
            f"{inventory.path}: `managed_by: daemonset`, and nothing says where kubectl is",
            hint="write `cluster: {kubectl: {on: NODE}}`, or `on: here` for your own kubectl",
        )
    return Kubectl(on=on, kubeconfig=choice.kubeconfig or ADMIN, context=context)


_ROLES = ("control-plane", "control_plane", "controlplane", "kube_control_plane", "master")


def _controls(node: Node) -> bool:
    labels = [key.removeprefix("node-role.kubernetes.io/") for key in node.labels]
    role = node.labels.get("role", "")
    said: Sequence[str] = (*node.groups, *labels, role)
    return any(each in _ROLES for each in said)


_PLURALS = {"ConfigMap": "configmaps", "DaemonSet": "daemonsets", "Lease": "leases"}


def _path(document: Mapping[str, Any]) -> str:
    """Return where the API server has an object; see Kubernetes' API concepts, resource URIs."""
    version = document["apiVersion"]
    root = "apis" if "/" in version else "api"
    place = f"namespaces/{NAMESPACE}/{_PLURALS[document['kind']]}/{document['metadata']['name']}"
    return f"/{root}/{version}/{place}"


def _given(document: Mapping[str, Any], command: str) -> Script:
    # printf is the shell's own, so the text is in no process's arguments; a ConfigMap of somebody
    # else may hold a token.
    text = Secret(json.dumps(document, ensure_ascii=True, separators=(",", ":")))
    return Script("printf %s ") + quote(text) + f" |\n  {command}"
