"""What topics ask together is asked once, and each finds its share; alone, each asks for itself."""

from pathlib import Path

import pytest

from nodeprep.sharing import EACH_LINE, LAST_LINE, UNIT_SHOWN, Search, Share, Unit, script
from nodeprep.shell import Script
from tests.shells import PATH, output

SHOW = f'{EACH_LINE}printf "%s\\n" "$line"\n{LAST_LINE}'
SYSTEMCTL = """\
#!/bin/sh
echo "$*" >>%(asked)s
shift
for word do
  case $word in *.service) printf "${next:-}Id=$word\\nActiveState=active\\n"; next='\\n' ;; esac
done
"""


def said(shell: str, text: str, path: str = PATH) -> list[str]:
    return output(shell, Script(text), path).decode().splitlines()


def search(name: str, pattern: str, file: Path) -> Search:
    return Search(name=name, pattern=pattern, files=(f"{file}*",))


@pytest.fixture
def systemctl(tmp_path: Path) -> str:
    """Give a PATH with a systemctl that knows every unit, and writes down what it is asked."""
    place = tmp_path / "bin"
    place.mkdir()
    (place / "systemctl").write_text(SYSTEMCTL % {"asked": tmp_path / "asked"})
    (place / "systemctl").chmod(0o755)
    return f"{place}:{PATH}"


# --- lines of files -------------------------------------------------------------------------


def test_what_two_search_for_is_found_by_one_grep(shell: str, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("a = 1\nb * 2\n")
    other.write_text("\\n  %s\tc\n")
    searches = (search("one", "^b", one), search("other", "c$", other))
    text = script([Share(searches=searches)]) + "PATH=\n" + searches[0].script + SHOW
    assert said(shell, text) == [f"{one}:2:b * 2", f"{other}:1:\\n  %s\tc"]


def test_a_search_that_nobody_announced_is_made_where_it_is_needed(
    shell: str, tmp_path: Path
) -> None:
    (tmp_path / "one").write_text("a\n")
    alone = search("one", "a", tmp_path / "one")
    assert said(shell, alone.script + SHOW) == [f"{tmp_path / 'one'}:1:a"]
    assert said(shell, script([]) + alone.script + SHOW) == [f"{tmp_path / 'one'}:1:a"]


def test_after_a_loop_words_and_patterns_are_again_what_they_were(shell: str) -> None:
    text = f"lines='*'\n{SHOW}words='a b'\nfor each in $words /et?; do echo \"$each\"; done\n"
    assert said(shell, text) == ["*", "a", "b", "/etc"]


# --- units ----------------------------------------------------------------------------------


def test_all_units_are_asked_for_at_once(shell: str, systemctl: str, tmp_path: Path) -> None:
    units = (Unit(name="a.service"), Unit(name="b.service"), Unit(name="c.service"))
    shown = "".join(
        f'unit_shown {unit.name}\necho "$shown"\n' for unit in (units[2], units[0], units[1])
    )
    text = UNIT_SHOWN + script([Share(units=units[:2]), Share(units=units[1:])]) + shown
    names = ("c.service", "a.service", "b.service")
    wanted = [line for name in names for line in (f"Id={name}", "ActiveState=active")]
    assert said(shell, text, systemctl) == wanted
    (asked,) = (tmp_path / "asked").read_text().splitlines()
    assert asked.endswith(" a.service b.service c.service")


def test_a_unit_whose_condition_fails_is_not_asked_for(
    shell: str, systemctl: str, tmp_path: Path
) -> None:
    units = (Unit(name="a.service", condition="false"), Unit(name="b.service", condition="true"))
    said(shell, UNIT_SHOWN + script([Share(units=units)]), systemctl)
    assert (tmp_path / "asked").read_text().endswith(" b.service\n")


def test_a_unit_that_nobody_announced_is_asked_for_beside_the_others(
    shell: str, systemctl: str, tmp_path: Path
) -> None:
    text = UNIT_SHOWN + script([Share(units=(Unit(name="a.service"),))])
    text += 'unit_shown late.service\necho "$shown"\nunit_shown a.service\necho "$shown"\n'
    assert said(shell, text, systemctl)[::2] == ["Id=late.service", "Id=a.service"]
    assert len((tmp_path / "asked").read_text().splitlines()) == 2


def test_without_systemd_nothing_is_said_of_a_unit(shell: str, tmp_path: Path) -> None:
    text = UNIT_SHOWN + script([Share(units=(Unit(name="a.service"),))])
    text += 'unit_shown a.service\necho "[$shown]"\n'
    assert said(shell, text, str(tmp_path)) == ["[]"]
