"""All contenders have one and the same job: what nodeprep would do on a bare node of the lab."""

import re
from pathlib import Path

import jinja2
import pytest
import yaml

from nodeprep.topics.kernel_modules import KERNEL
from nodeprep.topics.kube_proxy import BINARY, SERVICE, Binary
from nodeprep.topics.packages import INSTALLED
from nodeprep.topics.sysctl import PARAMETERS
from tests import facts
from tests.shells import complaints
from tests.test_golden import Case, landed
from tests.topics import node, of

PEERS = Path(__file__).parents[2] / "bench" / "peers"
SCRIPT = (PEERS / "script" / "prepare.sh").read_text()
CHECK = (PEERS / "check.sh").read_text()
PLAYBOOK = yaml.safe_load((PEERS / "ansible" / "playbook.yml").read_text())
DEPLOY = (PEERS / "pyinfra" / "deploy.py").read_text()
BARE = Case(
    node=node(cluster_cidr="10.254.0.0/16"),
    facts=of(
        {
            KERNEL: facts.read(KERNEL, "debian12"),
            PARAMETERS: facts.read(PARAMETERS, "centos7-no-br_netfilter"),
            BINARY: Binary(present=False),
            SERVICE: facts.read(SERVICE, "systemd-no-such-unit"),
            INSTALLED: facts.read(INSTALLED, "debian12-container"),
        }
    ),
)
FILES = {
    "/etc/modules-load.d/nodeprep.conf": "modules.conf",
    "/etc/sysctl.d/99-nodeprep.conf": "sysctl.conf",
    "/etc/systemd/system/kube-proxy.service": "kube-proxy.service",
    "/var/lib/kube-proxy/config.yaml": "config.yaml.j2",
}


def file(name: str) -> str:
    return (PEERS / "files" / name).read_text()


def lines(name: str) -> list[str]:
    return [line for line in file(name).splitlines() if not line.startswith("#")]


MODULES = lines("modules.conf")
PARAMETERS_WANTED = dict(line.split(" = ") for line in lines("sysctl.conf"))
PACKAGES = ["conntrack", "ipset", "ipvsadm", "iptables"]


def test_the_files_are_nodepreps_own_byte_for_byte() -> None:
    environment = jinja2.Environment(keep_trailing_newline=True, autoescape=False)  # noqa: S701
    rendered = {
        path: environment.from_string(file(name)).render(node=BARE.node.name)
        for path, name in FILES.items()
    }
    assert rendered == dict(landed(BARE))


@pytest.mark.parametrize("name", FILES.values())
def test_the_script_writes_the_same_text(name: str) -> None:
    text = file(name).removesuffix("\n").replace("{{ node }}", "'\"$name\"'")
    assert f"'{text}'" in SCRIPT


@pytest.mark.parametrize("path", FILES)
def test_everybody_writes_it_to_the_same_place(path: str) -> None:
    tasks = str(PLAYBOOK)
    assert path in tasks
    assert path in DEPLOY
    assert f"put {path}" in SCRIPT


def words(text: str, name: str) -> list[str]:
    (found,) = re.findall(rf"^{name}='([^']*)'", text, re.MULTILINE)
    return str(found).split()


@pytest.mark.parametrize("text", [SCRIPT, CHECK], ids=["script", "check"])
def test_the_scripts_name_the_same_modules_and_packages(text: str) -> None:
    assert words(text, "modules") == MODULES
    assert words(text, "packages") == PACKAGES


def test_the_playbook_names_the_same_modules_and_packages() -> None:
    assert PLAYBOOK[0]["vars"]["modules"] == MODULES
    assert PLAYBOOK[0]["vars"]["packages"] == PACKAGES


def test_the_deploy_names_the_same_modules_packages_and_parameters() -> None:
    assert str(MODULES).replace("'", '"') in DEPLOY
    assert str(PACKAGES).replace("'", '"') in DEPLOY
    found = dict(re.findall(r'^    "(net\.\S+)": (\d+),$', DEPLOY, re.MULTILINE))
    assert found == PARAMETERS_WANTED


def test_the_check_looks_at_the_same_parameters() -> None:
    found = dict(each.split("=") for each in words(CHECK, "parameters"))
    assert found == PARAMETERS_WANTED


@pytest.mark.parametrize("path", sorted(PEERS.rglob("*.sh")), ids=lambda path: path.name)
def test_the_scripts_are_plain_sh(path: Path) -> None:
    assert complaints(path.read_text()) == ""
