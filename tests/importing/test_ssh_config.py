"""An ssh_config: which entries are nodes, and what ssh would use for each, compared with ssh."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from nodeprep.errors import InventoryError
from nodeprep.importing import ssh_config
from nodeprep.importing.imported import Imported, Machine, told
from nodeprep.importing.settings import Paths

from .samples import DATA, written


def imported(text: str, included: Mapping[str, str] | None = None) -> Imported:
    files = included or {}

    def include(pattern: str) -> list[tuple[str, bytes]]:
        return [(pattern, files[pattern].encode())] if pattern in files else []

    return ssh_config.read(text.encode(), "config", include, Paths())


def machines(text: str, included: Mapping[str, str] | None = None) -> dict[str, Machine]:
    return {machine.name: machine for machine in imported(text, included).machines}


def settings(text: str, name: str = "x") -> dict[str, object]:
    return {".".join(key): value for key, value in machines(text)[name].settings.items()}


def lines(text: str) -> str:
    return "\n".join(told(imported(text).notes))


def test_hosts_that_are_no_patterns_are_nodes() -> None:
    assert list(machines("Host a b\nHost *.x c? !d\nHost e\nUser u\n")) == ["a", "b", "e"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Host x\n User ada\n Port 2222\n", {"ssh.user": "ada", "ssh.port": 2222}),
        ("host x\n user=ada\n port = 2222\n", {"ssh.user": "ada", "ssh.port": 2222}),
        ('Host x\n User "ada" # me\n', {"ssh.user": "ada"}),
        ("Host x\n User a\n User b\n", {"ssh.user": "a"}),
        ("User a\nHost x\n User b\n", {"ssh.user": "a"}),
        ("Host x\n User a\nHost *\n User b\n Port 22\n", {"ssh.user": "a", "ssh.port": 22}),
        ("Host *\n User b\nHost x\n User a\n", {"ssh.user": "b"}),
        ("Host x\nHost * !x\n User b\n", {}),
        ("Host x\nHost ? y\n User b\n", {"ssh.user": "b"}),
        ("Host x\nMatch host x\n User b\n", {"ssh.user": "b"}),
        ("Host x\n HostName y.z\nMatch host *.z\n User b\n", {"ssh.user": "b"}),
        ("Host x\n HostName y.z\nMatch originalhost *.z\n User b\n", {}),
        ("Host x\nMatch all\n User b\n", {"ssh.user": "b"}),
        ("Host x\nMatch exec true\n User b\n", {}),
        ("Host x\nMatch host x exec true\n User b\n", {}),
        ("Host x\n IdentityFile ~/a\n IdentityFile ~/b\n", {"ssh.identity_file": "~/a"}),
        ("Host x\n IdentityFile %d/.ssh/%n\n", {"ssh.identity_file": "~/.ssh/x"}),
        ("Host x\n IdentityFile none\n", {}),
        ("Host x\n ProxyJump a@b:22,c\n", {"ssh.jump": ("a@b:22", "c")}),
        ("Host x\n ProxyJump none\nHost *\n ProxyJump b\n", {}),
        ("Host x\n ProxyCommand ssh -W %h:%p a@b\n", {"ssh.jump": ("a@b",)}),
        ("Host x\n UserKnownHostsFile ~/k /dev/null\n", {"ssh.known_hosts": ("~/k",)}),
        ("Host x\n StrictHostKeyChecking accept-new\n", {"ssh.host_keys": "accept-new"}),
    ],
)
def test_settings_are_merged_as_ssh_does(text: str, wanted: dict[str, object]) -> None:
    assert settings(text) == wanted


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Host x\n", "x"),
        ("Host x\n HostName 192.0.2.1\n", "192.0.2.1"),
        ("Host x\n HostName %h.example.com\n", "x.example.com"),
        ("Host x\nHost *\n HostName %h.example.com\n", "x.example.com"),
    ],
)
def test_where_a_host_is(text: str, address: str) -> None:
    assert machines(text)["x"].address == address


def test_a_jump_host_of_the_file_is_told_with_its_address_user_and_port() -> None:
    text = "Host b\n HostName 192.0.2.9\n User ops\n Port 2222\nHost x\n ProxyJump b\n"
    assert settings(text)["ssh.jump"] == ("ops@192.0.2.9:2222",)
    assert settings(text.replace("ProxyJump b", "ProxyJump eve@b:1"))["ssh.jump"] == (
        "eve@192.0.2.9:1",
    )


def test_a_jump_host_behind_a_jump_host_comes_after_it() -> None:
    text = "Host a\nHost b\n ProxyJump a\nHost x\n ProxyJump b\n"
    assert settings(text)["ssh.jump"] == ("a", "b")


def test_a_jump_host_for_all_is_none_for_itself() -> None:
    text = "Host b\n HostName 192.0.2.9\nHost x\nHost *\n ProxyJump b\n"
    assert settings(text, "b") == {}
    assert settings(text)["ssh.jump"] == ("192.0.2.9",)


def test_jump_hosts_in_a_circle_end() -> None:
    assert settings("Host a\n ProxyJump b\nHost b\n ProxyJump a\nHost x\n ProxyJump a\n")[
        "ssh.jump"
    ]


def test_a_second_name_of_one_machine_is_left_out_and_said() -> None:
    text = "Host x x.example.com\n HostName 192.0.2.1\n"
    assert list(machines(text)) == ["x"]
    assert "config:1: x.example.com: another name of `x`: left out" in lines(text)


def test_an_included_file_counts_where_its_host_does() -> None:
    text = "Include all\nHost x\n Include only\n Port 2222\nHost y\n"
    found = machines(text, {"all": "User ada\n", "only": "IdentityFile k\nHost z\n Port 1\n"})
    assert found["x"].settings == {
        ("ssh", "user"): "ada",
        ("ssh", "identity_file"): "k",
        ("ssh", "port"): 2222,
    }
    assert found["y"].settings == {("ssh", "user"): "ada"}


def test_files_that_include_each_other_end() -> None:
    with pytest.raises(InventoryError, match="include each other more than 16 deep"):
        imported("Include me\n", {"me": "Include me\n"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Host x\nMatch exec true\n User b\n", "config:2: Match exec is passed over"),
        ("Host g\n User git\n", "config:1: g: it is for `User git`"),
        ("Host x\n HostName a_b..c\n", "config:1: x: `a_b..c` is not an address"),
        ("Host x\n Tunnel yes\n", "config:1: x: ssh options stay behind: tunnel"),
        ("Host x\n StrictHostKeyChecking no\n", "host keys are not checked there"),
        ("Host x\n User 'a b'\n", "ssh.user stays behind"),
        ("Host x\n ProxyCommand nc %h %p\n", "a ProxyCommand that is no plain `ssh -W`"),
        ("Host x\n User ada\n", "who becomes root there, and how, is not written"),
        (
            "Host b\n IdentityFile kb\nHost x\n IdentityFile kx\n ProxyJump b\n",
            "a jump host's own key",
        ),
    ],
)
def test_what_stays_behind_is_said(text: str, said: str) -> None:
    assert said in lines(text)


def test_what_is_no_loss_is_not_said() -> None:
    assert lines("Host x\n User root\n ServerAliveInterval 5\n ForwardAgent yes\n") == ""


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('Host x\n User "ada\n', 2, "a quote is not closed"),
        ("Host 'x\n", 1, "a quote is not closed"),
        ("Host x\n\x00\n", 2, "this is not a text file"),
    ],
)
def test_a_wrong_line_is_told_with_its_number(text: str, line: int, said: str) -> None:
    with pytest.raises(InventoryError) as caught:
        imported(text)
    (problem,) = caught.value.problems
    assert (problem.line, said in problem.message) == (line, True)


# --- compared with ssh itself -------------------------------------------------------------------

NEEDS_SSH = pytest.mark.skipif(not shutil.which("ssh"), reason="no ssh here")

CONFIGS = {
    "first wins": "Host a\n User u1\n Port 1\nHost *\n User u2\n Port 2\nHost b\n User u3\n",
    "negation": "Host web* !web9\n User w\nHost web1 web9\n Port 5\n",
    "match": "Host a\n HostName a.prod\nHost b\nMatch host *.prod\n User p\nMatch all\n Port 9\n",
    "tokens": "Host a b\n HostName %h.example.com\n User u\n",
    "global first": "User g\nHost a\n User h\n Port 7\n",
    "quotes": 'Host "a" b\n User "u"\n Port "8"\n',
    "equals": "Host=a\nUser=u\nPort = 6\n",
    "comments": "Host a b # both\n User u # me\n",
    "jump": "Host j\n User o\nHost a\n ProxyJump j:22\nHost b\n ProxyJump none\nHost *\n Port 9\n",
    "fabric": (DATA / "ssh-config-fabric" / "config").read_text(),
}


@NEEDS_SSH
@pytest.mark.parametrize("name", CONFIGS)
def test_ssh_itself_would_use_the_same(name: str, tmp_path: Path) -> None:
    text = CONFIGS[name]
    (tmp_path / "config").write_text(text)
    found = machines(text)
    assert found
    for alias, machine in found.items():
        said = ssh_says(tmp_path / "config", alias)
        assert machine.address == said["hostname"]
        for key in ("user", "port"):
            if ("ssh", key) in machine.settings:
                assert str(machine.settings["ssh", key]) == said[key]
            else:
                assert said[key] == ssh_says(Path("/dev/null"), alias)[key]


def ssh_says(config: Path, alias: str) -> Mapping[str, str]:
    command = ("ssh", "-G", "-F", str(config), alias)
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(line.partition(" ")[::2] for line in out.splitlines())


def test_the_result_is_an_inventory() -> None:
    text = "\n".join(CONFIGS.values())
    assert len(written(imported(text))) == len(machines(text))
