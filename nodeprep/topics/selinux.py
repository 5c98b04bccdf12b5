"""SELinux stays as it is: its mode is told, and a kube-proxy that it would not let start is found.

nodeprep gives each file and folder that it makes the label that the policy has for it, and loads
the kernel modules itself, so that no program on the node needs the right to ask for one
(``module_request``, kube-vip#506). The binary is not nodeprep's: its label is looked at only.
"""

from dataclasses import dataclass

from nodeprep.model import Change, Fact, Facts, Finding, Node, Status
from nodeprep.shell import words

NAME = "selinux"
TITLE = "SELinux"

UNFIT = frozenset(
    ("user_home_t", "admin_home_t", "user_tmp_t", "tmp_t", "default_t", "unlabeled_t", "var_lib_t")
)
"""Types of what was moved or unpacked from elsewhere: systemd may not start such a program.

Seen with kubelet and k3s: kubernetes#95034, minikube#5660, terraform-hcloud-kube-hetzner#1148.
"""


@dataclass(frozen=True, kw_only=True)
class Selinux:
    """``mode`` is enforcing, permissive, disabled, or empty where there is no SELinux.

    ``binary`` is the context of kube-proxy's program, empty where it is not there.
    """

    mode: str = ""
    binary: str = ""


# A kernel may have SELinux and the system no policy: that is none. In dash, `read` gets the one
# digit and no end of line, and so fails.
_PROBE = """\
enforce=
if [ -e /sys/fs/selinux/enforce ] && [ -e /etc/selinux/config ]; then
  read -r enforce </sys/fs/selinux/enforce
  printf 'enforce %%s\\n' "$enforce"
  [ -e %(binary)s ] && stat -L -c 'binary %%C' %(binary)s
elif [ -e /etc/selinux/config ]; then
  echo disabled
fi
:"""


def _script(node: Node) -> str:
    return _PROBE % {"binary": words(node.desired.kube_proxy.binary)}


def parse(text: str) -> Selinux:
    r"""Read ``enforce DIGIT`` and ``binary CONTEXT``, or ``disabled``.

    >>> parse("enforce 1\nbinary system_u:object_r:bin_t:s0\n").mode
    'enforcing'
    """
    said = dict(line.partition(" ")[::2] for line in text.splitlines())
    modes = {"1": "enforcing", "0": "permissive", "": "disabled" if "disabled" in said else ""}
    return Selinux(mode=modes.get(said.get("enforce", ""), ""), binary=said.get("binary", ""))


SELINUX = Fact(name="selinux", script=_script, parse=parse)
FACTS = (SELINUX,)


def paths(_: Node) -> tuple[str, ...]:
    """Nothing here is written."""
    return ()


secrets = paths


def changes(_: Node, __: Facts) -> tuple[Change, ...]:
    """Nothing here is changed: SELinux is the operator's, and so is the binary."""
    return ()


def findings(node: Node, facts: Facts) -> tuple[Finding, ...]:
    """Say the mode, and whether the binary's label lets systemd start it."""
    selinux = facts[SELINUX]
    told = {"": "not on this system", "enforcing": "enforcing, and stays so"}
    mode = Finding(
        topic=NAME, name="selinux", status=Status.OK, actual=told.get(selinux.mode, selinux.mode)
    )
    return (mode, *_label(node, selinux))


def _label(node: Node, selinux: Selinux) -> tuple[Finding, ...]:
    proxy, parts = node.desired.kube_proxy, selinux.binary.split(":")
    if len(parts) < 3 or not proxy.has_unit:  # noqa: PLR2004 user, role and type
        return ()
    kind = parts[2]
    if kind == "bin_t" or kind.endswith("_exec_t"):
        return (Finding(topic=NAME, name="label", status=Status.OK, actual=kind),)
    refused = selinux.mode == "enforcing" and kind in UNFIT
    label = words("semanage", "fcontext", "-a", "-t", "bin_t", proxy.binary)
    return (
        Finding(
            topic=NAME,
            name="label",
            status=Status.FAIL if refused else Status.WARN,
            actual=f"{proxy.binary} is {kind}" + (": systemd may not start it" if refused else ""),
            wanted="bin_t",
            hint=f"{words('restorecon', '-v', proxy.binary)}; where that leaves it so: {label}, "
            "then restorecon again",
        ),
    )
