"""Programs for nodes are compiled once, from their sources and nothing else."""

import subprocess
from pathlib import Path

import pytest

from nodeprep.errors import LabError
from nodeprep.lab import golang, mirror
from nodeprep.lab.settings import default_cache

HELLO = 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println("hello") }\n'
NOWHERE = mirror.Mirror(archives=(), options=())


def test_the_compiler_asks_no_network_and_writes_where_it_is_told(tmp_path: Path) -> None:
    told = golang.Compiler(root=Path("/root-of-it")).environment(tmp_path)
    assert told["GOPROXY"] == "off"
    assert told["CGO_ENABLED"] == "0"
    assert told["GOROOT"] == f"/root-of-it/usr/lib/go-{golang.VERSION}"
    assert told["GOCACHE"] == str(tmp_path / "go-cache")


def compiled(cache: Path, folder: Path) -> Path:
    """Compile without a compiler: what is not in the cache already is an error."""
    return golang.program(cache, NOWHERE, folder)


@pytest.mark.lab
def test_a_program_is_called_as_its_folder_and_runs_anywhere(tmp_path: Path) -> None:
    folder = tmp_path / "greeter"
    folder.mkdir()
    (folder / "main.go").write_text(HELLO)
    (tmp_path / "cache").mkdir()
    compiler = golang.compiler(default_cache(), mirror.read())
    (tmp_path / "cache" / compiler.root.name).symlink_to(compiler.root)
    program = golang.program(tmp_path / "cache", mirror.read(), folder)
    assert program.name == "greeter"
    assert subprocess.check_output([program], text=True) == "hello\n"
    assert [path.name for path in program.parent.iterdir()] == ["greeter"]
    # Its tests are no part of it; another source is another program.
    (folder / "main_test.go").write_text("package main\n")
    assert compiled(tmp_path / "cache", folder) == program
    (folder / "main.go").write_text(HELLO.replace("hello", "goodbye"))
    with pytest.raises(LabError):
        compiled(tmp_path / "cache", folder)
