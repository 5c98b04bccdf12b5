"""etcd and kube-apiserver on the host's loopback; nodes reach them as 10.0.2.2.

There is no other part of a control plane: what controllers would make, ``objects`` makes. All is
allowed to whoever has the lab's token, and the token is in files that only the user can read. In a
cluster such as kubeadm makes, everybody else has a token and the rights of his own.
"""

import csv
import json
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from nodeprep.errors import LabError
from nodeprep.lab import keys
from nodeprep.lab.api import Api
from nodeprep.lab.objects import SERVICE_CIDR
from nodeprep.lab.process import Process, identify, running
from nodeprep.lab.programs import run
from nodeprep.lab.repository import HOST_AS_SEEN_BY_NODES
from nodeprep.lab.state import ControlPlane, Lab, state_file

_KEEPER = Path(__file__).with_name("keep.py")
_LOOPBACK = "127.0.0.1"
_DEADLINE = 120.0
_PAUSE = 0.3
_TAIL = 12
_LAB_USER = "lab"
NODEPREP_USER = "nodeprep"
# ServiceAccounts need nobody beside the API server if their tokens come by TokenRequest: kubelets
# do it so since 1.21, and 1.20 where this gate is open.
_AS_KUBEADM = (
    "--authorization-mode=Node,RBAC",
    "--feature-gates=BoundServiceAccountTokenVolume=true",
    "--allow-privileged=true",
)
_ALL_ALLOWED = (
    "--authorization-mode=AlwaysAllow",
    # There are no pods to give accounts to.
    "--disable-admission-plugins=ServiceAccount",
)


@dataclass(frozen=True, kw_only=True)
class Programs:
    """The two programs, out of the cache."""

    etcd: Path
    apiserver: Path


def claim(lab: Lab, *, kubeadm: bool = False) -> ControlPlane:
    """Make the control plane's folder, and choose its ports.

    Raises LabError if there is something of that name already: ``down`` removes it whole.
    """
    try:
        lab.control_folder.mkdir(mode=0o700)
    except FileExistsError:
        raise LabError(f"not of this lab, and in its way: {lab.control_folder}") from None
    etcd_port, peer_port, port = free_ports(3)
    return ControlPlane(port=port, etcd_port=etcd_port, peer_port=peer_port, kubeadm=kubeadm)


def write_secrets(lab: Lab, plane: ControlPlane) -> None:
    """Write the keys, a token for each user, and the kubeconfigs that have them."""
    groups = dict(users(lab, plane))
    lines = (f'{secrets.token_urlsafe(32)},{user},{user},"{groups[user]}"\n' for user in groups)
    _write_secret(_tokens(lab), "".join(lines))
    _write_secret(lab.kubeconfig, kubeconfig(plane.port, token(lab, _LAB_USER)))
    if plane.kubeadm:
        text = kubeconfig(plane.port, token(lab, NODEPREP_USER))
        _write_secret(lab.nodeprep_kubeconfig, text)
    keys.make_signing_key(_signing_key(lab))


def users(lab: Lab, plane: ControlPlane) -> Iterator[tuple[str, str]]:
    """Yield who has a token, and the group he is in: none is an empty text."""
    yield _LAB_USER, "system:masters"
    if plane.kubeadm:
        yield NODEPREP_USER, ""
        yield from ((node_user(node.name), "system:nodes") for node in lab.nodes)


def node_user(node: str) -> str:
    """Return who a node's own programs are, as Kubernetes calls them."""
    return f"system:node:{node}"


def token(lab: Lab, user: str = _LAB_USER) -> str:
    """Return a user's token. Raises LabError if there is no such user."""
    with _tokens(lab).open() as lines:
        for secret, name, *_ in csv.reader(lines):
            if name == user:
                return secret
    raise LabError(f"nobody is named {user} in {lab.folder}")


def free_ports(count: int) -> list[int]:
    """Return ports of the host's loopback on which nobody listens at this moment."""
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server((_LOOPBACK, 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in taken]


def server_url(port: int) -> str:
    """Return where nodes find the API server."""
    return f"https://{HOST_AS_SEEN_BY_NODES}:{port}"


def kubeconfig(port: int, token: str) -> str:
    """Return the file by which a node's kube-proxy finds the API server; JSON is YAML too.

    The certificate is not checked: the server makes a new one in each lab, and the way to it
    leads through this machine only.
    """
    return f"""\
apiVersion: v1
kind: Config
clusters:
- name: lab
  cluster:
    server: {server_url(port)}
    insecure-skip-tls-verify: true
users:
- name: lab
  user:
    token: {json.dumps(token)}
contexts:
- name: lab
  context:
    cluster: lab
    user: lab
current-context: lab
"""


def start_etcd(lab: Lab, plane: ControlPlane, program: Path) -> Process:
    """Start the store. Raises LabError if it does not start."""
    return _start(lab, "etcd", [str(program), *etcd_arguments(lab.control_folder, plane)])


def start_apiserver(lab: Lab, plane: ControlPlane, program: Path) -> Process:
    """Start the API server, which waits for its store. Raises LabError if it does not start."""
    words = apiserver_arguments(lab.control_folder, plane)
    return _start(lab, "kube-apiserver", [str(program), *words])


def etcd_arguments(folder: Path, plane: ControlPlane) -> list[str]:
    """Return etcd's command line: a cluster of one, on the loopback, its data in ``folder``."""
    clients, peers = (f"http://{_LOOPBACK}:{port}" for port in (plane.etcd_port, plane.peer_port))
    return [
        "--name=lab",
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=lab={peers}",
        "--logger=zap",
        "--log-outputs=stderr",
        "--log-level=warn",
    ]


def apiserver_arguments(folder: Path, plane: ControlPlane) -> list[str]:
    """Return kube-apiserver's command line.

    It listens on the loopback, and advertises the address by which nodes get there: so the
    kubernetes ClusterIP really leads to it. It makes its own certificate in ``folder``.
    """
    key = folder / "service-account.key"
    return [
        f"--etcd-servers=http://{_LOOPBACK}:{plane.etcd_port}",
        f"--bind-address={_LOOPBACK}",
        f"--secure-port={plane.port}",
        f"--advertise-address={HOST_AS_SEEN_BY_NODES}",
        f"--cert-dir={folder}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--anonymous-auth=false",
        *(_AS_KUBEADM if plane.kubeadm else _ALL_ALLOWED),
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        # Few enough ask.
        "--enable-priority-and-fairness=false",
        "--profiling=false",
    ]


def _start(lab: Lab, name: str, words: list[str]) -> Process:
    log, lifeline = _log(lab, name), state_file(lab.folder)
    pid = run([sys.executable, "-I", _KEEPER, log, lifeline, *words]).strip()
    process = identify(int(pid)) if pid else None
    if process is None:
        raise LabError(f"{name} did not start:\n{_log_tail(lab, name)}")
    return process


def api(lab: Lab) -> Api:
    """Return the door to the lab's API server. Raises LabError if the lab has none."""
    if lab.control_plane is None:
        raise LabError(f"the lab in {lab.folder} has no cluster", hint="nodeprep lab up --cluster")
    return Api(port=lab.control_plane.port, certificate=_certificate(lab), token=token(lab))


def authority(lab: Lab) -> str:
    """Return the certificates, in PEM, by which the API server is known; wait until it has them.

    Raises LabError as ``wait_until_ready`` does.
    """
    # Its key is what it writes last.
    _wait(lab, _certificate(lab).with_suffix(".key").exists)
    return _certificate(lab).read_text()


def wait_until_ready(lab: Lab) -> Api:
    """Wait until the API server says that it is ready, and return the door to it.

    Raises LabError with the end of a log if etcd or it ends, or 120 seconds pass.
    """
    door = api(lab)
    _wait(lab, door.ready)
    return door


def _wait(lab: Lab, true: Callable[[], bool]) -> None:
    end = time.monotonic() + _DEADLINE
    while time.monotonic() < end:
        if true():
            return
        for name, process in lab.control_processes:
            if not running(process):
                raise LabError(f"{name} has ended:\n{_log_tail(lab, name)}")
        time.sleep(_PAUSE)
    name = "kube-apiserver"
    raise LabError(f"{name} is not ready after {_DEADLINE:.0f} s:\n{_log_tail(lab, name)}")


def _certificate(lab: Lab) -> Path:
    return lab.control_folder / "apiserver.crt"


def _tokens(lab: Lab) -> Path:
    return lab.control_folder / "tokens.csv"


def _signing_key(lab: Lab) -> Path:
    return lab.control_folder / "service-account.key"


def _log(lab: Lab, name: str) -> Path:
    return lab.control_folder / f"{name}.log"


def _log_tail(lab: Lab, name: str) -> str:
    log = _log(lab, name)
    text = log.read_text(errors="replace") if log.exists() else ""
    return "\n".join(text.splitlines()[-_TAIL:])


def _write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
