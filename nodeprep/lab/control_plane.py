"""etcd and kube-apiserver on the host's loopback; nodes reach them as 10.0.2.2.

There is no other part of a control plane: what controllers would make, ``objects`` makes. All is
allowed to whoever has the token, and the token is in files that only the user can read.
"""

import json
import secrets
import socket
import sys
import time
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
_GROUP = "system:masters"


@dataclass(frozen=True, kw_only=True)
class Programs:
    """The two programs, out of the cache."""

    etcd: Path
    apiserver: Path


def claim(lab: Lab) -> ControlPlane:
    """Make the control plane's folder, and choose its ports.

    Raises LabError if there is something of that name already: ``down`` removes it whole.
    """
    try:
        lab.control_folder.mkdir(mode=0o700)
    except FileExistsError:
        raise LabError(f"not of this lab, and in its way: {lab.control_folder}") from None
    etcd_port, peer_port, port = free_ports(3)
    return ControlPlane(port=port, etcd_port=etcd_port, peer_port=peer_port)


def write_secrets(lab: Lab, plane: ControlPlane) -> None:
    """Write the keys, the token, and the kubeconfig that has it."""
    token = secrets.token_urlsafe(32)
    _write_secret(_tokens(lab), f'{token},lab,lab,"{_GROUP}"\n')
    _write_secret(lab.kubeconfig, kubeconfig(plane.port, token))
    keys.make_signing_key(_signing_key(lab))


def free_ports(count: int) -> list[int]:
    """Return ports of the host's loopback on which nobody listens at this moment."""
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server((_LOOPBACK, 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in taken]


def kubeconfig(port: int, token: str) -> str:
    """Return the file by which a node's kube-proxy finds the API server; JSON is YAML too.

    The certificate is not checked: the server makes a new one in each lab, and the way to it
    leads through this machine only.
    """
    server = f"https://{HOST_AS_SEEN_BY_NODES}:{port}"
    return f"""\
apiVersion: v1
kind: Config
clusters:
- name: lab
  cluster:
    server: {server}
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
        "--authorization-mode=AlwaysAllow",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        # There are no pods to give accounts to, and few enough who ask.
        "--disable-admission-plugins=ServiceAccount",
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
    token, _, _ = _tokens(lab).read_text().partition(",")
    certificate = lab.control_folder / "apiserver.crt"
    return Api(port=lab.control_plane.port, certificate=certificate, token=token)


def wait_until_ready(lab: Lab) -> Api:
    """Wait until the API server says that it is ready, and return the door to it.

    Raises LabError with the end of a log if etcd or it ends, or 120 seconds pass.
    """
    door, end = api(lab), time.monotonic() + _DEADLINE
    while time.monotonic() < end:
        if door.ready():
            return door
        for name, process in lab.control_processes:
            if not running(process):
                raise LabError(f"{name} has ended:\n{_log_tail(lab, name)}")
        time.sleep(_PAUSE)
    name = "kube-apiserver"
    raise LabError(f"{name} is not ready after {_DEADLINE:.0f} s:\n{_log_tail(lab, name)}")


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
