"""A node's QEMU: what it is started with."""

import itertools
import socket
import threading
from pathlib import Path

import pytest

from nodeprep.errors import LabError
from nodeprep.lab import acceleration, machine, qmp
from nodeprep.lab.image import Image

NODE = machine.Machine(
    folder=Path("/lab/node1"),
    image=Image(folder=Path("/cache/image")),
    memory=384,
    address="127.77.0.11",
    port=2222,
    machine_id="0123456789abcdef0123456789abcdef",
    accelerator="tcg,tb-size=512",
)


def option(words: list[str], name: str) -> list[str]:
    return [value for word, value in itertools.pairwise(words) if word == name]


def test_a_node_listens_on_a_loopback_address_of_its_own() -> None:
    netdev = option(machine.arguments(NODE), "-netdev")
    assert netdev == ["user,id=net,hostfwd=tcp:127.77.0.11:2222-:22"]


def test_only_the_overlay_is_written_to() -> None:
    root, seed = option(machine.arguments(NODE), "-drive")
    assert "file=/lab/node1/disk.qcow2" in root
    assert "file=/lab/node1/seed.ext4" in seed
    assert "readonly=on" in seed
    assert "base.ext4" not in " ".join(machine.arguments(NODE))


def test_the_root_disk_comes_first_because_the_kernel_calls_it_vda() -> None:
    devices = option(machine.arguments(NODE), "-device")
    assert devices[:2] == ["virtio-blk-pci,drive=root", "virtio-blk-pci,drive=seed"]
    assert "root=/dev/vda" in machine.kernel_options(NODE)


def test_the_machine_id_is_on_the_kernel_command_line() -> None:
    (line,) = option(machine.arguments(NODE), "-append")
    assert line.endswith("systemd.machine_id=0123456789abcdef0123456789abcdef")


def test_qemu_goes_into_the_background_and_says_who_it_is() -> None:
    words = machine.arguments(NODE)
    assert "-daemonize" in words
    assert option(words, "-pidfile") == ["/lab/node1/pid"]
    assert option(words, "-qmp") == ["unix:/lab/node1/qmp,server=on,wait=off"]


def test_a_comma_in_a_path_begins_no_option() -> None:
    odd = machine.Machine(**{**vars(NODE), "folder": Path("/a,readonly=on/node1")})
    (root, _) = option(machine.arguments(odd), "-drive")
    assert "file=/a,,readonly=on/node1/disk.qcow2," in root


def test_a_folder_too_deep_for_a_socket_is_refused_before_anything_starts(tmp_path: Path) -> None:
    deep = machine.Machine(**{**vars(NODE), "folder": tmp_path / ("x" * 100)})
    with pytest.raises(LabError, match="too long for a socket's path"):
        machine.start(deep)


def test_an_emulated_processor_walks_short_page_tables() -> None:
    assert option(machine.arguments(NODE), "-cpu") == ["max,la57=off"]
    assert acceleration.processor("kvm") == "max"


def test_the_trial_of_kvm_writes_nothing_and_ends_by_itself() -> None:
    words = acceleration.trial_arguments(NODE.image)
    assert option(words, "-accel") == ["kvm"]
    assert "-no-reboot" in words
    assert "snapshot=on" in option(words, "-drive")[0]


def answering(path: Path, *answers: bytes) -> threading.Thread:
    """Be a QEMU that greets, and answers each command with the next of the answers."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        connection, _ = server.accept()
        with server, connection, connection.makefile("rb") as commands:
            connection.sendall(b'{"QMP": {}}\n')
            for answer in answers:
                commands.readline()
                connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_events_between_a_command_and_its_answer_are_passed_over(tmp_path: Path) -> None:
    events = b'{"event": "RESET"}\n{"event": "RESUME"}\n{"return": {}}\n'
    thread = answering(tmp_path / "qmp", b'{"return": {}}\n', events)
    qmp.execute(tmp_path / "qmp", "system_reset")
    thread.join()


def test_what_qemu_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    refusal = b'{"error": {"class": "CommandNotFound", "desc": "no such command"}}\n'
    thread = answering(tmp_path / "qmp", b'{"return": {}}\n', refusal)
    with pytest.raises(LabError, match="no such command"):
        qmp.execute(tmp_path / "qmp", "dance")
    thread.join()


@pytest.mark.parametrize("answers", [(), (b'{"return": {}}\n',)])
def test_a_qemu_that_hangs_up_is_an_error(tmp_path: Path, answers: tuple[bytes, ...]) -> None:
    thread = answering(tmp_path / "qmp", *answers)
    with pytest.raises(LabError, match="does not answer"):
        qmp.execute(tmp_path / "qmp", "quit")
    thread.join()


def test_a_socket_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="does not answer"):
        qmp.execute(tmp_path / "qmp", "quit")
