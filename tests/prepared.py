"""A node that is as it should be, in ipvs mode, and the processes that a script starts on it.

Its files, tables and kube-proxy's answer are real. Made up are what a machine without systemd and
without modules cannot have: ``systemctl``, ``journalctl``, ``ipvsadm`` and kube-proxy's program,
each one process as the real one is, and the kernel's lists.
"""

import contextlib
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from nodeprep import apply, probe, story
from nodeprep.model import Facts
from nodeprep.shell import Script
from tests.namespaces import NONCE, Namespace, namespace
from tests.shells import PATH, command
from tests.topics import node

NODE = node(cluster_cidr="10.244.0.0/16", binary="/run/kube-proxy")
RUN = apply.Run(id="20261123T070000Z-0a1b2c", operator="ada@desk")
BEFORE_ANY_FACT = "together"
"""Where the processes are counted that answer several facts."""

_SYSTEMCTL = """\
#!/bin/sh
[ "$1" = show ] || exit 0
shift
read -r pid </run/kube-proxy.pid
wanted= separator=
say() { case $wanted in *" $1 "*) printf '%s=%s\\n' "$1" "$2" ;; esac; }
while [ $# -gt 0 ]; do
  case $1 in -p) wanted="$wanted $2 "; shift 2; continue ;; esac
  printf "$separator"
  separator='\\n'
  case $1 in kube-proxy.service) main=$pid active=active ;; *) main=0 active=inactive ;; esac
  say MainPID "$main"
  say Id "$1"
  say LoadState loaded
  say ActiveState "$active"
  say FragmentPath "/etc/systemd/system/$1"
  say UnitFileState enabled
  say DropInPaths ""
  say NeedDaemonReload no
  shift
done
"""

# A program of more than a megabyte, as kube-proxy's is.
_KUBE_PROXY = """\
printf '#!/bin/sh\\necho Kubernetes v1.34.0\\nexit\\n' >/run/kube-proxy
head -c 1100000 /dev/zero >>/run/kube-proxy
chmod 755 /run/kube-proxy
touch -d '2 hours ago' /run/kube-proxy
"""

_SERVING = """\
import http.server, os
class Mode(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ipvs")
    def log_message(self, *_):
        pass
server = http.server.HTTPServer(("127.0.0.1", 10249), Mode)
print("ready", flush=True)
server.serve_forever()
"""

_MODULES = " ".join(
    (
        *("br_netfilter", "nf_conntrack", "ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh"),
        *("xt_comment", "xt_addrtype", "ip_set", "dummy"),
    )
)
_SYSTEM = f"""\
mkdir -p /mnt/lib/upper /mnt/lib/work /mnt/bin
mount -t overlay overlay -o lowerdir=/usr/lib,upperdir=/mnt/lib/upper,workdir=/mnt/lib/work /usr/lib
read -r release </proc/sys/kernel/osrelease
lists=/usr/lib/modules/$release
mkdir -p "$lists" /etc/kubernetes
for module in {_MODULES}; do echo "kernel/net/$module.ko:"; done >"$lists/modules.dep"
: >"$lists/modules.builtin"
for name in ipset ipvsadm iptables conntrack; do
  printf '\\nPackage: %s\\nStatus: install ok installed\\nVersion: 1.0-1\\n' "$name"
done >>/var/lib/dpkg/status
: >/run/ip_vs
echo 'apiVersion: v1' >/etc/kubernetes/kube-proxy.kubeconfig
printf '#!/bin/sh\\necho "TCP  10.0.0.1:443 rr"\\n' >/mnt/bin/ipvsadm
printf '#!/bin/sh\\necho "Using ipvs Proxier."\\n' >/mnt/bin/journalctl
chmod 755 /mnt/bin/*
"""


@dataclass(frozen=True, kw_only=True)
class Processes:
    """What a script started, by the fact it was for: processes, and programs that they became."""

    forks: Mapping[str, int]
    programs: Mapping[str, tuple[str, ...]]

    @property
    def total(self) -> int:
        """The number of processes, the shell that runs the script not among them."""
        return sum(self.forks.values())


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A prepared node, asked in one shell."""

    inside: Namespace

    def whole(self, script: Script) -> str:
        """Return a script as this node runs it: with its programs, and its table of IPVS."""
        return "PATH=/mnt/bin:$PATH\n" + script.reveal().replace("/proc/net/ip_vs", "/run/ip_vs")

    def look(self) -> Facts:
        """Probe this node."""
        output = self.inside.run(self.whole(probe.script(NODE, story.STORY, NONCE)))
        return probe.parse(output, NODE, story.STORY, NONCE)

    def place_files(self) -> None:
        """Write the files that are wanted, as an apply does it."""
        facts = self.look()
        every = (change for topic in story.STORY for change in topic.changes(NODE, facts))
        changes = [change for change in every if change.guard]
        output = self.inside.run(self.whole(apply.script(NODE, changes, story.STORY, RUN, NONCE)))
        steps, log = apply.parse(output, changes, NONCE)
        assert [step.exit_status for step in steps] == [0] * len(changes), log

    def processes(self, script: Script, record: Path) -> Processes:
        """Run a script under strace, and return what it started; ``record`` is overwritten."""
        traced = ("strace", "-f", "-qq", "-s", "100", "-o", str(record), "-e")
        calls = "trace=execve,clone,clone3,fork,vfork,write"
        words = (*self.inside.enter, *traced, calls, *command(self.inside.shell), "-s")
        subprocess.run(
            words,
            input=self.whole(script).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": PATH, "LC_ALL": "C", "HOME": "/root"},
            check=True,
        )
        return counted(record.read_text(errors="replace"))


def counted(record: str) -> Processes:
    """Read what strace wrote."""
    forks: Counter[str] = Counter()
    programs: dict[str, list[str]] = {}
    here, names = BEFORE_ANY_FACT, dict[str, str]()
    for line in record.splitlines():
        process, _, call = line.partition(" ")
        if mark := re.search(rf"@{NONCE} (begin|end) ([\w.]+)", call):
            here = mark[2] if mark[1] == "begin" else BEFORE_ANY_FACT
        elif re.match(r" *(clone3?|fork|vfork)\(", call) and "CLONE_THREAD" not in call:
            forks[here] += 1
        elif started := re.match(r' *execve\("([^"]*)"', call):
            names[process] = started[1].rpartition("/")[2]
        if "execve" in call and call.endswith("= 0"):
            programs.setdefault(here, []).append(names[process])
    shell, *rest = programs.get(BEFORE_ANY_FACT, [""])
    every = {**programs, BEFORE_ANY_FACT: rest} if shell else programs
    return Processes(forks=forks, programs={name: tuple(p) for name, p in every.items()})


@contextlib.contextmanager
def prepared(shell: str = "dash") -> Iterator[Prepared]:
    """Give a prepared node; skips where there are no namespaces, or no strace."""
    if shutil.which("strace", path=PATH) is None:
        pytest.skip("strace is not installed")
    with namespace(shell) as inside:
        inside.ask(_SYSTEM + _KUBE_PROXY)
        inside.ask(
            f"cat >/mnt/bin/systemctl <<'END'\n{_SYSTEMCTL}END\nchmod 755 /mnt/bin/systemctl"
        )
        words = (*inside.enter, sys.executable, "-c", _SERVING)
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout
                assert server.stdout.readline() == "ready\n"
                inside.ask(f"echo {server.pid} >/run/kube-proxy.pid")
                # Of a program that changed a moment ago no version is kept.
                time.sleep(4)
                made = Prepared(inside=inside)
                made.place_files()
                yield made
            finally:
                server.kill()
