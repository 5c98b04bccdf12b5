"""The same work as Fabric tasks: one for each step of the story, and one for the whole.

``fab --list`` shows them. Each takes ``--inventory`` and ``--limit`` as the command line does, and
ends with its exit code: ``fab prepare -i inventory.yaml``, ``fab verify --limit @workers``.
"""

from collections.abc import Sequence

from fabric import task
from invoke.context import Context

from nodeprep.cli import run_command

_HELP = {
    "inventory": "the nodes and what they should be (default: inventory.yaml)",
    "limit": "only these nodes: names, worker[01-09], web*, @group, label=value, !not",
}


def _run(verb: str, inventory: str, limit: str, topics: Sequence[str] = ()) -> None:
    chosen = [word for topic in topics for word in ("--topic", topic)]
    run_command([verb, "--inventory", inventory, "--limit", limit, *chosen])


@task(help=_HELP)
def facts(_: Context, inventory: str = "inventory.yaml", limit: str = "") -> None:
    """Show what the nodes say of themselves."""
    _run("facts", inventory, limit)


@task(help=_HELP)
def plan(_: Context, inventory: str = "inventory.yaml", limit: str = "") -> None:
    """Show what `prepare` would change."""
    _run("plan", inventory, limit)


@task(help=_HELP)
def packages(_: Context, inventory: str = "inventory.yaml", limit: str = "") -> None:
    """Install ipset, ipvsadm and what else the mode needs."""
    _run("apply", inventory, limit, ("packages",))


@task(help=_HELP)
def modules(_: Context, inventory: str = "inventory.yaml", limit: str = "") -> None:
    """Load the kernel modules, and persist them in modules files."""
    _run("apply", inventory, limit, ("kernel_modules",))


@task(help=_HELP)
def sysctls(_: Context, inventory: str = "inventory.yaml", limit: str = "") -> None:
    """Load the modules, then set the bridge and forwarding sysctls and persist them."""
    _run("apply", inventory, limit, ("kernel_modules", "sysctl"))


@task(help=_HELP)
def ipsets(_: Context, inventory: str = "inventory.yaml", limit: str = "") -> None:
    """Load the ipsets, and put the iptables rules that match them in place."""
    _run("apply", inventory, limit, ("ipsets", "bypass_rules"))


@task(help=_HELP)
def neighbours(_: Context, inventory: str = "inventory.yaml", limit: str = "") -> None:
    """Let NetworkManager, systemd-networkd and firewalld leave kube-proxy's traffic alone."""
    _run("apply", inventory, limit, ("network_manager", "networkd", "firewall"))


@task(help=_HELP)
def kube_proxy(_: Context, inventory: str = "inventory.yaml", limit: str = "") -> None:
    """Put kube-proxy's unit and config in place; restart it where they changed."""
    _run("apply", inventory, limit, ("kube_proxy",))


@task(help=_HELP)
def ipvs(_: Context, inventory: str = "inventory.yaml", limit: str = "") -> None:
    """Show the mode in effect and the virtual servers, as `ipvsadm -Ln` has them."""
    _run("facts", inventory, limit, ("proxy_mode",))


@task(help=_HELP, default=True)
def prepare(_: Context, inventory: str = "inventory.yaml", limit: str = "") -> None:
    """Do all steps on all nodes, and read them again."""
    _run("apply", inventory, limit)


@task(help=_HELP)
def verify(_: Context, inventory: str = "inventory.yaml", limit: str = "") -> None:
    """Say whether the nodes are as wanted, and what to type where not."""
    _run("verify", inventory, limit)
