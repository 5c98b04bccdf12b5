"""The command line: what help pays for, what a wrong word gets, the whole way of each verb."""

import contextlib
import io
import json
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from nodeprep import __version__, cli, runner, story
from nodeprep.credentials import Passwords
from nodeprep.errors import LockHeld, NodeprepError
from nodeprep.files import ManagedFile
from nodeprep.model import Node
from nodeprep.shell import Script
from nodeprep.transport import Limits
from tests.sample_topic import SampleTopic
from tests.shells import NEEDS_ROOT
from tests.test_runner import Door

ELSEWHERE = ("lab", "import", "dataplane")
VERBS = ("facts", "verify", "plan", "apply")
RESULT = json.loads((Path(__file__).parent / "report" / "result.schema.json").read_text())
HEAVY = ("fabric", "paramiko", "pydantic", "rich", "jinja2", "yaml", "cryptography", "distributed")


def called(*arguments: str) -> tuple[int, str, str]:
    """Run one command, and return its exit code and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.run_command(arguments)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an inventory of two nodes, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NODEPREP_INVENTORY", raising=False)
    file = tmp_path / "inventory.yaml"
    file.write_text(
        "defaults: {ssh: {known_hosts: ./known_hosts, config: none}}\n"
        "nodes: [{name: 'node[1-2]', address: '192.0.2.[1-2]'}]\n"
    )
    return file


@pytest.fixture
def door(inventory: Path, monkeypatch: pytest.MonkeyPatch) -> Door:
    """Open a door to machines in a folder, which should have one file each."""
    one = Door(folder=inventory.parent)
    monkeypatch.setattr(runner, "connect", one.connect)
    file = ManagedFile(path=str(inventory.parent / "shared.conf"), content="new\n")
    monkeypatch.setattr(story, "STORY", (SampleTopic(wanted=[file]),))
    return one


# --- what it costs --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], *([verb, "--help"] for verb in (*VERBS, "schema", "dataplane"))],
    ids=" ".join,
)
def test_help_imports_nothing_heavy(arguments: Sequence[str]) -> None:
    program = (
        "import sys\nfrom nodeprep.cli import run_command\n"
        f"try: run_command({arguments!r})\nfinally: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stderr.decode().split()}
    assert not loaded & set(HEAVY)
    assert done.stdout


def test_python_dash_m_is_the_command() -> None:
    shown = subprocess.check_output((sys.executable, "-m", "nodeprep", "--version"))
    assert __version__ in shown.decode()


def test_help_names_every_verb_and_exit_code() -> None:
    code, out, _ = called("--help")
    assert code == 0
    assert all(f"\n  {verb} " in out for verb in (*VERBS, "schema", *ELSEWHERE))
    assert all(f"\n    {number} " in out for number in (0, 1, 2, 3, 4, 5, 130))


def test_the_topics_are_those_of_the_story() -> None:
    assert tuple(topic.NAME for topic in story.STORY) == cli.TOPICS


# --- what is wrong with it ------------------------------------------------------------------


def said_once(err: str) -> str:
    """Return the one line that says what is wrong; usage and hints may stand around it."""
    (line,) = [text for text in err.splitlines() if text.startswith(("Error: ", "nodeprep: "))]
    assert "Traceback" not in err
    return line


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--bogus"], "--bogus"),
        (["--parallel", "0"], "0 is not in the range"),
        (["--parallel", "many"], "'many' is not a valid"),
        (["--output", "xml"], "'xml' is not one of"),
        (["--topic", "nothing"], "'nothing' is not one of"),
        (["--limit", "nobody"], "`nobody` matches no node"),
        (["--limit", ","], "empty term"),
        (["--local"], "no single node"),
        (["one", "two"], "extra argument"),
        (["--inventory", "absent.yaml"], "cannot read the inventory absent.yaml"),
        (["--inventory"], "requires an argument"),
    ],
)
@pytest.mark.usefixtures("inventory")
def test_a_wrong_word_is_one_line_and_exit_code_two(verb: str, words: list[str], told: str) -> None:
    code, out, err = called(verb, *words)
    assert (code, out) == (2, "")
    assert told in said_once(err)


@pytest.mark.parametrize(
    "words", [["nothing"], ["schema", "more"], ["--bogus"], ["lab", "nothing"]]
)
def test_a_command_that_there_is_not_is_exit_code_two(words: list[str]) -> None:
    code, out, err = called(*words)
    assert (code, out) == (2, "")
    assert said_once(err)


def test_every_problem_of_an_inventory_is_told_with_its_place(inventory: Path) -> None:
    inventory.write_text("nodes: [{name: a, adress: b}, {name: -oProxyCommand=x}]\n")
    code, out, err = called("verify")
    assert (code, out) == (2, "")
    assert "inventory.yaml:1:19: " in err
    assert err.count("inventory.yaml:1:") == 2


@pytest.mark.parametrize("content", [None, "", "{}", "[]", "not json", "\udcff"])
def test_a_file_that_is_no_plan_is_exit_code_two(inventory: Path, content: str | None) -> None:
    if content is not None:
        (inventory.parent / "p.json").write_bytes(content.encode(errors="surrogateescape"))
    code, out, err = called("apply", "p.json")
    assert (code, out) == (2, "")
    assert "p.json" in said_once(err)
    assert "nodeprep plan --out p.json" in err


def test_an_interrupt_while_it_prepares_is_exit_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nodeprep.inventory.load", interrupted)
    assert called("verify")[0] == 130


# --- the whole way --------------------------------------------------------------------------


def result(*arguments: str) -> tuple[int, Any]:
    code, out, _ = called(*arguments, "--output", "json")
    body = json.loads(out)
    jsonschema.Draft202012Validator(RESULT).validate(body)
    assert body["exit_code"] == code
    return code, body


@NEEDS_ROOT
@pytest.mark.usefixtures("door")
def test_plan_apply_and_verify_agree() -> None:
    assert result("verify")[0] == 1
    assert result("plan")[0] == 1
    code, body = result("apply", "--limit", "node1")
    assert (code, [step["exit_status"] for step in body["nodes"][0]["steps"]]) == (0, [0])
    assert result("plan")[0] == 0
    assert result("verify")[0] == 0
    assert result("apply")[1]["nodes"][0]["steps"] == []


@pytest.mark.usefixtures("door")
def test_facts_are_shown_of_nodes_that_are_not_as_wanted() -> None:
    code, body = result("facts")
    assert code == 0
    assert [each["facts"]["greeting"] for each in body["nodes"]] == ["hello", "hello"]
    assert "greeting: hello" in called("facts")[1]


def test_nodes_are_told_in_the_order_of_the_inventory(door: Door) -> None:
    slow = door.machine("node1")

    def late(script: Script) -> bytes:
        return slow.run(Script("sleep 0.2\n") + script)

    door.behind["node1"] = late
    assert [each["name"] for each in result("facts")[1]["nodes"]] == ["node1", "node2"]


@pytest.mark.usefixtures("door")
def test_only_the_nodes_of_the_limit_are_visited(door: Door) -> None:
    result("verify", "--limit", "node2")
    assert [name for name, _ in door.sessions] == ["node2"]


def test_local_visits_this_machine_without_ssh(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses: list[str] = []

    @contextlib.contextmanager
    def connect(node: Node, limits: Limits, passwords: Passwords) -> Iterator[object]:
        addresses.append(node.address)
        with door.connect(node, limits, passwords) as room:
            yield room

    monkeypatch.setattr(runner, "connect", connect)
    result("facts", "--local", "--limit", "node1")
    assert addresses == ["local"]


@pytest.mark.parametrize(("verb", "code"), [("verify", 3), ("plan", 3), ("apply", 3), ("facts", 3)])
def test_a_node_that_is_held_is_told_and_is_exit_code_three(
    door: Door, verb: str, code: int
) -> None:
    held: NodeprepError = LockHeld("held by ann")
    door.behind.update(node1=held, node2=held)
    assert result(verb)[0] == code
    assert "held by ann" in called(verb)[1]


def test_text_is_not_coloured_where_there_is_no_terminal(door: Door) -> None:
    del door
    for verb in VERBS:
        assert "\x1b" not in called(verb)[1]


def test_quiet_shows_only_what_is_not_ok(door: Door) -> None:
    del door
    assert "greeting" in called("verify")[1]
    assert "greeting" not in called("verify", "--quiet")[1]


# --- saved plans ----------------------------------------------------------------------------


def test_a_saved_plan_is_for_its_owner_alone(door: Door) -> None:
    assert called("plan", "--out", "p.json")[0] == 1
    file = door.folder / "p.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(json.loads(file.read_text())["nodes"]) == ["node1", "node2"]


@NEEDS_ROOT
@pytest.mark.usefixtures("door")
def test_a_saved_plan_is_done_and_then_stale() -> None:
    called("plan", "--out", "p.json", "--limit", "node1")
    code, body = result("apply", "p.json")
    assert (code, [each["name"] for each in body["nodes"]]) == (0, ["node1"])
    code, body = result("apply", "p.json")
    assert (code, body["nodes"][0]["error"]["kind"]) == (3, "StalePlan")


@pytest.mark.parametrize(
    ("meddle", "expected"), [("plan", 2), ("inventory", 3)], ids=["edited", "other inventory"]
)
def test_a_saved_plan_that_was_meddled_with_changes_nothing(
    door: Door, inventory: Path, meddle: str, expected: int
) -> None:
    called("plan", "--out", "p.json")
    door.sessions.clear()
    file = door.folder / "p.json" if meddle == "plan" else inventory
    file.write_text(file.read_text().replace("node2", "node3").replace("1-2", "1-3"))
    code, out, err = called("apply", "p.json")
    assert (code, out, door.sessions) == (expected, "", [])
    assert said_once(err)


# --- schema ---------------------------------------------------------------------------------


def test_schema_prints_a_json_schema_that_takes_the_example() -> None:
    code, out, _ = called("schema")
    assert code == 0
    jsonschema.Draft202012Validator.check_schema(json.loads(out))


@pytest.mark.usefixtures("door")
def test_lines_of_json_come_as_the_nodes_do_and_the_last_one_counts_them() -> None:
    code, out, _ = called("verify", "-o", "jsonl")
    *lines, last = map(json.loads, out.splitlines())
    assert {line["name"] for line in lines} == {"node1", "node2"}
    assert all(line["ready"] is False and line["findings"] for line in lines)
    assert (last["command"], last["nodes"], last["exit_code"], code) == ("verify", 2, 1, 1)


def test_facts_of_this_machine_are_read_through_the_whole_program(tmp_path: Path) -> None:
    file = tmp_path / "here.yaml"
    file.write_text("nodes: [{name: here, address: local}]\n")
    done = subprocess.run(
        (sys.executable, "-m", "nodeprep", "facts", "-i", file, "-o", "json"),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    body = json.loads(done.stdout)
    assert body["nodes"][0]["facts"]["system"]["kernel"]
