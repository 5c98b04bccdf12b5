"""What Ansible's variables come to in our inventory, and what stays behind with a word about it."""

from typing import Any

import pytest

from nodeprep.importing.ansible.connection import is_yes

from .samples import lines, machines, result, settings, source, written


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ("ansible_user=ada", {"ssh.user": "ada"}),
        ("ansible_ssh_user=ada", {"ssh.user": "ada"}),
        ("ansible_user=eve ansible_ssh_user=ada", {"ssh.user": "ada"}),
        ("ansible_port=2222", {"ssh.port": 2222}),
        ("ansible_ssh_port=2222", {"ssh.port": 2222}),
        ("ansible_ssh_private_key_file=~/.ssh/k", {"ssh.identity_file": "~/.ssh/k"}),
        ("ansible_private_key_file=/k", {"ssh.identity_file": "/k"}),
        ("ansible_ssh_common_args='-J ops@b:22,c'", {"ssh.jump": ("ops@b:22", "c")}),
        ("ansible_ssh_common_args='-o ProxyJump=b'", {"ssh.jump": ("b",)}),
        (
            "ansible_ssh_common_args='-o ProxyCommand=\"ssh -W %h:%p -q -p 22 ops@b\"'",
            {"ssh.jump": ("ops@b:22",)},
        ),
        ("ansible_ssh_extra_args='-F cfg'", {"ssh.config": "cfg"}),
        ("ansible_ssh_args='-l eve' ansible_user=ada", {"ssh.user": "eve"}),
        ("ansible_ssh_common_args='-l eve' ansible_user=ada", {"ssh.user": "ada"}),
        ("ansible_become=true", {"sudo": "passwordless"}),
        ("ansible_become=yes ansible_become_method=sudo", {"sudo": "passwordless"}),
        ("ansible_become=false ansible_become_password=x", {"sudo": "none"}),
        ("ansible_become=true ansible_become_password=x", {"sudo": "ask"}),
        ("ansible_sudo_pass=x", {"sudo": "ask"}),
        ("ansible_become=true ansible_become_method=doas", {}),
        ("ansible_become=true ansible_become_user=deploy", {}),
        ("ansible_become='{{ x | y }}'", {}),
        ("ansible_connection=ansible.builtin.ssh ansible_user=ada", {"ssh.user": "ada"}),
        ("ansible_connection=paramiko ansible_user=ada", {"ssh.user": "ada"}),
        ("ansible_connection=local ansible_user=ada ansible_become=yes", {"sudo": "passwordless"}),
    ],
)
def test_variables_become_settings(variables: str, wanted: dict[str, Any]) -> None:
    assert settings(f"x {variables}\n") == wanted


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ("", "x"),
        ("ansible_host=192.0.2.1", "192.0.2.1"),
        ("ansible_ssh_host=192.0.2.1", "192.0.2.1"),
        ("ansible_host=fd00::1", "fd00::1"),
        ("ansible_host=[fd00::1]", "fd00::1"),
        ("ansible_connection=local", "local"),
        ("ip=192.0.2.1 ansible_host='{{ ip }}'", "192.0.2.1"),
        ("ansible_host='{{ inventory_hostname }}.example.com'", "x.example.com"),
    ],
)
def test_where_a_host_is(variables: str, address: str) -> None:
    assert machines(f"x {variables}\n")["x"].address == address


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ("ansible_connection=winrm", "ansible_connection is `winrm`: left out"),
        ("ansible_connection=community.docker.docker", "is `docker`: left out"),
        ("ansible_connection=network_cli", "is `network_cli`: left out"),
        ("ansible_host='{{ lookup(1) }}'", "its address cannot be told: left out"),
        ("ansible_host='a b'", "is not an address"),
        ("ansible_host=fe80::1%eth0", "is not an address"),
    ],
)
def test_a_host_that_cannot_be_reached_is_left_out_and_said(variables: str, said: str) -> None:
    text = f"[w]\nok\nx {variables}\n"
    assert list(machines(text)) == ["ok"]
    assert any(line.startswith("hosts.ini:3: x: ") and said in line for line in lines(text))


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ("ansible_user='{{ env }}'", "ansible_user is a Jinja expression: it stays behind"),
        ("ansible_user='{{ a }}' a='{{ ansible_user }}'", "ansible_user refers to itself"),
        ("ansible_user='a b'", "ssh.user stays behind: `a b` is not allowed here"),
        ("ansible_port=99999", "ssh.port stays behind"),
        ("ansible_port=ssh", "ssh.port stays behind"),
        ("ansible_user='[1]'", "ansible_user stays behind: it is no text"),
        ("ansible_become='{{ x | y }}'", "ansible_become is a Jinja expression"),
        ("ansible_ssh_private_key_file=~eve/k", "ssh.identity_file stays behind"),
        ("ansible_password=x", "the login password stays behind"),
        ("ansible_become_pass=x", "the password for sudo stays behind"),
        ("ansible_become=yes ansible_become_method=doas", "becoming root by `doas` stays behind"),
        ("ansible_become=yes ansible_become_user=deploy", "becoming `deploy` stays behind"),
        ("ansible_host_key_checking=False", "host keys are not checked there"),
        ("ansible_ssh_common_args='-o StrictHostKeyChecking=no'", "host keys are not checked"),
        ("ansible_ssh_common_args='-o ProxyCommand=\"nc %h %p\"'", "no plain `ssh -W`"),
        ("ansible_ssh_common_args='-o Tunnel=yes'", "ssh options stay behind: tunnel"),
        ("ansible_ssh_common_args='\"-o'", "a quote that is not closed"),
        ("ansible_user=ada", "who becomes root there, and how, is not written"),
    ],
)
def test_what_stays_behind_is_said(variables: str, said: str) -> None:
    assert [line for line in lines(f"x {variables}\n") if said in line], lines(f"x {variables}\n")


def test_what_is_no_loss_is_not_said() -> None:
    quiet = "ansible_python_interpreter=/usr/bin/python3 ansible_user=root ansible_ssh_retries=3"
    args = "-o ControlMaster=auto -o ControlPersist=60s -q -C"
    assert lines(f"x {quiet} ansible_ssh_args='{args}'\n") == []


def test_variables_that_say_nothing_are_one_line() -> None:
    many = "".join(f"v{n}=1\n" for n in range(300))
    said = lines(f"[w]\nx ansible_user=root\ny ansible_user=root\n[w:vars]\n{many}ansible_net=1\n")
    assert len(said) == 2
    assert said[0] == "Ansible's own variables stay behind: ansible_net"
    assert said[1].count(", v") == 299


def test_the_same_of_many_hosts_is_one_line() -> None:
    (said,) = [s for s in lines("w[01:40] ansible_connection=winrm\n") if "winrm" in s]
    assert said.startswith("hosts.ini:1: w[01-40]: ")


SECRET = "hunter2-canary"


@pytest.mark.parametrize(
    "variables",
    [
        f"ansible_password={SECRET}",
        f"ansible_ssh_pass={SECRET}",
        f"ansible_become_password={SECRET} ansible_become=true",
        f"ansible_sudo_pass={SECRET}",
        f"token={SECRET}",
        f"ansible_ssh_common_args='-o ProxyCommand=\"sshpass -p {SECRET} ssh -W %h:%p b\"'",
        f"ansible_ssh_common_args='-o ProxyCommand=\"ssh -W %h:%p b {SECRET}\"'",
        f"pw={SECRET} ansible_become_password='{{{{ pw }}}}'",
    ],
)
def test_a_secret_is_neither_written_nor_said(variables: str) -> None:
    imported = result({"hosts.ini": f"x {variables}\n"}).imported
    assert SECRET not in str(written(imported))
    assert SECRET not in str(imported.notes)


def test_a_vault_value_is_said_by_its_name() -> None:
    text = "w:\n  hosts:\n    x:\n      ansible_user: !vault |\n        $ANSIBLE_VAULT\n        6\n"
    assert "hosts.yml:4: x: ansible_user is in a vault: it stays behind; write its value" in lines(
        text, "hosts.yml"
    )
    assert result({"hosts.yml": text}).vault


def test_the_inventorys_folder_is_known_to_templates() -> None:
    found = settings("x ansible_ssh_private_key_file='{{ inventory_dir }}/key'\n")
    assert found["ssh.identity_file"] == f"{source({}).folder}/key"


@pytest.mark.parametrize("value", [True, 1, "yes", "Yes", "on", "TRUE", "t"])
def test_what_ansible_takes_for_true(value: object) -> None:
    assert is_yes(value)


@pytest.mark.parametrize("value", [False, 0, "no", "off", "", None, "maybe", 2])
def test_what_ansible_does_not_take_for_true(value: object) -> None:
    assert not is_yes(value)
