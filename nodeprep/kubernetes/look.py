"""One look at a cluster's kube-proxies: the question that kubectl is asked, and its answer.

kubectl is slow to start, so it is asked three times and no more; and it is asked for nothing that
is not kube-proxy's: objects by their names, pods by their label. No Secret is read. An answer is
limited (``frames.CAP``), so of nodes and pods only a few fields are written, and all is packed.
"""

import ast
import base64
import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from nodeprep.errors import FactError
from nodeprep.kubernetes import reading
from nodeprep.kubernetes.kubectl import Kubectl
from nodeprep.kubernetes.view import APP, LEASE, ORIGINAL, SECOND, Object, View

Part = Literal["nodes", "objects", "pods"]
PARTS: tuple[Part, ...] = ("nodes", "objects", "pods")


# --- the question ---------------------------------------------------------------------------

_ASK = """\
ask() {
  part=$1
  shift
  printf '== %s\\n' "$part"
  { said=$("$@" 2>&1 >&3); status=$?; } 3>&1
  printf '\\n== end %s\\n%s\\n' "$status" "$said"
}
"""

_PACKED = """\
if command -v gzip >/dev/null && command -v base64 >/dev/null; then
  echo packed
  look | gzip -c | base64
else
  look
fi"""

# One line for each field that counts, its values as Go quotes them. `with` leaves out what is not
# there.
_NODES = (
    r"""{{range .items}}{{printf "node %q\n" .metadata.name}}"""
    r"""{{range .status.addresses}}{{printf "address %q %q\n" .type .address}}{{end}}"""
    r"""{{range $k, $v := .metadata.labels}}{{printf "label %q %q\n" $k $v}}{{end}}"""
    r"""{{range .spec.taints}}{{printf "taint %q %q" .key .effect}}"""
    r"""{{with .value}}{{printf " %q" .}}{{end}}{{"\n"}}{{end}}"""
    r"""{{if .spec.unschedulable}}{{"unschedulable\n"}}{{end}}"""
    r"""{{range .status.conditions}}{{if eq .type "Ready"}}"""
    r"""{{printf "ready %q\n" .status}}{{end}}{{end}}"""
    r"""{{printf "kubelet %q\n" .status.nodeInfo.kubeletVersion}}{{end}}"""
)
_PODS = (
    r"""{{range .items}}{{printf "pod %q %q\n" .metadata.name .metadata.uid}}"""
    r"""{{printf "created %q\n" .metadata.creationTimestamp}}"""
    r"""{{with .metadata.deletionTimestamp}}{{printf "deleted %q\n" .}}{{end}}"""
    r"""{{range $k, $v := .metadata.labels}}{{printf "label %q %q\n" $k $v}}{{end}}"""
    r"""{{range .metadata.ownerReferences}}"""
    r"""{{printf "owner %q %q %q\n" .kind .name .uid}}{{end}}"""
    r"""{{with .spec.nodeName}}{{printf "on %q\n" .}}{{end}}"""
    r"""{{range .spec.containers}}{{printf "container %q %q\n" .name .image}}"""
    r"""{{range .command}}{{printf "word %q\n" .}}{{end}}"""
    r"""{{range .args}}{{printf "word %q\n" .}}{{end}}"""
    r"""{{range .volumeMounts}}{{printf "mount %q %q\n" .name .mountPath}}{{end}}{{end}}"""
    r"""{{range .spec.volumes}}{{$name := .name}}{{with .configMap}}"""
    r"""{{printf "map %q %q\n" $name .name}}{{end}}{{end}}"""
    r"""{{with .status.phase}}{{printf "phase %q\n" .}}{{end}}"""
    r"""{{range .status.conditions}}{{if eq .type "Ready"}}"""
    r"""{{printf "ready %q\n" .status}}{{end}}{{end}}"""
    r"""{{range .status.containerStatuses}}"""
    r"""{{$name := .name}}{{printf "state %q %q\n" $name (printf "%v" .restartCount)}}"""
    r"""{{with .state}}{{with .running}}{{with .startedAt}}"""
    r"""{{printf "started %q\n" .}}{{end}}{{end}}"""
    r"""{{with .waiting}}{{with .reason}}{{printf "reason %q\n" .}}{{end}}"""
    r"""{{with .message}}{{printf "message %q\n" .}}{{end}}{{end}}{{end}}{{end}}{{end}}"""
)


def script(kubectl: Kubectl, parts: Sequence[Part] = PARTS) -> str:
    """Return shell statements that read ``parts`` of the cluster and change nothing."""
    names = [
        *(f"daemonset.apps/{name}" for name in (ORIGINAL, SECOND)),
        *(f"configmap/{name}" for name in (ORIGINAL, SECOND)),
        f"lease.coordination.k8s.io/{LEASE}",
    ]
    objects = ("get", "--ignore-not-found", "-o", "json", *names)
    # Until 1.20 kubectl shows by itself who wrote which field, and knows no word for it.
    with_managers = kubectl.system(*objects, "--show-managed-fields")
    managed = (
        "objects() {\n"
        f"  {{ said=$({with_managers} 2>&1 >&4); status=$?; }} 4>&1\n"
        "  case $said in\n"
        f"    *'unknown flag'*) {kubectl.system(*objects)} ;;\n"
        "    *)\n"
        "      printf '%s\\n' \"$said\" >&2\n"
        '      return "$status"\n'
        "      ;;\n"
        "  esac\n"
        "}\n"
        "ask objects objects"
    )
    label = f"{APP} in ({ORIGINAL},{SECOND})"
    template = f"go-template={_PODS}"
    asked: Mapping[Part, str] = {
        "nodes": f"ask nodes {kubectl.words('get', 'nodes', '-o', f'go-template={_NODES}')}",
        "objects": managed,
        "pods": f"ask pods {kubectl.system('get', 'pods', '-l', label, '-o', template)}",
    }
    chosen = "\n".join(asked[part] for part in PARTS if part in parts)
    return f"{_ASK}# shellcheck disable=SC2016\nlook() {{\n{chosen}\n}}\n{_PACKED}"


# --- the answer -----------------------------------------------------------------------------


def parse(text: str, parts: Sequence[Part] = PARTS) -> View:
    """Read what :func:`script` printed.

    Raises FactError where a part is missing or torn, or where nothing of it could be read: its
    hint has kubectl's words.
    """
    text = _unpacked(text)
    answers = {part: _part(text, part) for part in parts}
    problems = tuple(said for _, said in answers.values() if said)
    nodes, objects, pods = (answers.get(part, ("", ""))[0] for part in PARTS)
    every = _objects(objects)
    leases = [reading.lease(item) for item in every if item.get("kind") == "Lease"]
    sets = [reading.daemon_set(item) for item in every if item.get("kind") == "DaemonSet"]
    maps = [reading.config_map(item) for item in every if item.get("kind") == "ConfigMap"]
    return View(
        nodes=tuple(reading.node(_node_told(lines)) for lines in _lines(nodes, "node")),
        pods=tuple(reading.pod(_pod_told(lines)) for lines in _lines(pods, "pod")),
        daemon_sets={found.name: found for found in sets},
        config_maps={found.name: found for found in maps},
        lease=leases[0] if leases else None,
        problems=problems,
    )


def _unpacked(text: str) -> str:
    if not text.startswith("packed\n"):
        return text
    try:
        packed = base64.b64decode("".join(text.split("\n")[1:]), validate=True)
        return gzip.decompress(packed).decode("utf-8", "backslashreplace")
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise FactError("kubectl's answer is not whole") from error


def _part(text: str, part: Part) -> tuple[str, str]:
    _, began, rest = f"\n{text}".partition(f"\n== {part}\n")
    answer, ended, rest = rest.partition("\n== end ")
    if not began or not ended:
        raise FactError(f"kubectl's answer about {part} is not whole")
    status, _, said = rest.partition("\n== ")[0].partition("\n")
    said = said.strip()
    if status.strip() == "0":
        return answer, ""
    if part != "objects" or not answer.strip():
        raise FactError(f"kubectl could not read the cluster's {part}", hint=said)
    return answer, said


def _objects(answer: str) -> tuple[Object, ...]:
    if not answer.strip():
        return ()
    try:
        document = json.loads(answer)
    except ValueError as error:
        raise FactError(f"kubectl's answer about objects is no JSON: {error}") from error
    items = document.get("items", [document]) if isinstance(document, dict) else []
    return tuple(item for item in items if isinstance(item, dict))


_Line = tuple[str, ...]
"""A field's word, then its values."""


def _lines(answer: str, first: str) -> Iterator[list[_Line]]:
    """Yield the lines of each item: one that begins with ``first`` begins the next."""
    found: list[_Line] = []
    for line in answer.splitlines():
        word, _, rest = line.partition(" ")
        try:
            values = [ast.literal_eval(each) for each in _QUOTED.findall(rest)]
        except (SyntaxError, ValueError) as error:
            raise FactError(f"kubectl's answer has a line that cannot be read: {line}") from error
        if word == first and found:
            yield found
            found = []
        if word:
            found.append((word, *map(str, values)))
    if found:
        yield found


_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
"""A text as Go quotes it; the escapes are those of Python, too."""


def _node_told(lines: Sequence[_Line]) -> Object:
    """Return what a node's lines say, in the shape of the API."""
    node: Object = {"metadata": {"labels": {}}, "spec": {"taints": []}}
    status: Object = {"addresses": [], "conditions": [], "nodeInfo": {}}
    for line in lines:
        match line:
            case ("node", name):
                node["metadata"]["name"] = name
            case ("address", kind, address):
                status["addresses"].append({"type": kind, "address": address})
            case ("label", key, value):
                node["metadata"]["labels"][key] = value
            case ("taint", key, effect, *value):
                node["spec"]["taints"].append(
                    {"key": key, "effect": effect, "value": "".join(value)}
                )
            case ("unschedulable",):
                node["spec"]["unschedulable"] = True
            case ("ready", said):
                status["conditions"].append({"type": "Ready", "status": said})
            case ("kubelet", release):
                status["nodeInfo"]["kubeletVersion"] = release
    return {**node, "status": status}


def _pod_told(lines: Sequence[_Line]) -> Object:
    """Return what a pod's lines say, in the shape of the API."""
    metadata: Object = {"labels": {}, "ownerReferences": []}
    spec: Object = {"containers": [], "volumes": []}
    status: Object = {"conditions": [], "containerStatuses": []}
    for line in lines:
        match line:
            case ("pod", name, uid):
                metadata |= {"name": name, "uid": uid}
            case ("created", time):
                metadata["creationTimestamp"] = time
            case ("deleted", time):
                metadata["deletionTimestamp"] = time
            case ("label", key, value):
                metadata["labels"][key] = value
            case ("owner", kind, name, uid):
                metadata["ownerReferences"].append({"kind": kind, "name": name, "uid": uid})
            case _:
                _of_spec(line, spec)
                _of_status(line, status)
                _of_container(line, spec["containers"], status["containerStatuses"])
    return {"metadata": metadata, "spec": spec, "status": status}


def _of_spec(line: _Line, spec: Object) -> None:
    match line:
        case ("on", name):
            spec["nodeName"] = name
        case ("map", volume, name):
            spec["volumes"].append({"name": volume, "configMap": {"name": name}})


def _of_status(line: _Line, status: Object) -> None:
    match line:
        case ("phase", phase):
            status["phase"] = phase
        case ("ready", said):
            status["conditions"].append({"type": "Ready", "status": said})


def _of_container(line: _Line, containers: list[Object], states: list[Object]) -> None:
    match line:
        case ("container", name, image):
            containers.append({"name": name, "image": image, "command": [], "volumeMounts": []})
        case ("word", word) if containers:
            containers[-1]["command"].append(word)
        case ("mount", name, path) if containers:
            containers[-1]["volumeMounts"].append({"name": name, "mountPath": path})
        case ("state", name, restarts):
            states.append({"name": name, "restartCount": int(restarts), "state": {}})
        case ("started", time) if states:
            states[-1]["state"]["running"] = {"startedAt": time}
        case (("reason" | "message") as key, said) if states:
            states[-1]["state"].setdefault("waiting", {})[key] = said
