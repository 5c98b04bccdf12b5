"""An installed wheel works from any folder: what lands on nodes travels with it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, and unpack it as an installer does."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.mark.parametrize("folder", ["templates", "nodeprep/lab/guest"])
def test_every_file_beside_the_code_is_in_it(installed: Path, folder: str) -> None:
    inside = installed / "nodeprep" / folder.removeprefix("nodeprep/")
    wanted = {p.relative_to(ROOT / folder) for p in (ROOT / folder).rglob("*") if p.is_file()}
    assert wanted
    assert wanted == {p.relative_to(inside) for p in inside.rglob("*") if p.is_file()}


def test_it_renders_what_lands_on_a_node_from_another_folder(
    installed: Path, tmp_path: Path
) -> None:
    code = (
        "from nodeprep.render import render, template_folder\n"
        "print(template_folder())\n"
        "print(render('modules-load.conf.j2', {'mark': 'x', 'modules': ['ip_vs']}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(installed))
    assert "\nip_vs\n" in done.stdout
