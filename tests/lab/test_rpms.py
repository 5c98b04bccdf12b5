"""What Debian's packages become for nodes with rpm, made by the real rpmbuild."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from nodeprep.lab import rpms
from nodeprep.lab.programs import find
from nodeprep.lab.requirements import RPM_PROGRAMS

NAMES = {"conntrack": "conntrack-tools", "iptables": "iptables-nft"}
NEEDS_RPM = pytest.mark.skipif(
    not all(map(find, RPM_PROGRAMS)), reason=f"not installed: {' '.join(RPM_PROGRAMS.values())}"
)
ALTERNATIVES = """\
#!/bin/sh
set -e
if [ "$1" = "configure" ]; then
  update-alternatives --install /usr/sbin/iptables iptables /usr/sbin/iptables-nft 20  # 100%
fi
"""
REMOVAL = "#!/bin/sh\nupdate-alternatives --remove iptables /usr/sbin/iptables-nft\n"


def control(name: str, version: str, depends: str = "") -> str:
    return (
        f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: nobody <n@b>\n"
        f"{f'Depends: {depends}' if depends else 'Section: net'}\n"
        "Description: 100% of what is needed\n and more\n"
    )


def deb(folder: Path, fields: str, files: Mapping[str, str], **scripts: str) -> None:
    """Build a Debian package into the folder; where a file's text is a path, it is a copy."""
    root = folder / "tree"
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        content = Path(text).read_bytes() if text.startswith("/") else text.encode()
        (root / path).write_bytes(content)
        (root / path).chmod(0o755 if "/sbin/" in path else 0o644)
    (root / "DEBIAN").mkdir()
    for name, text in {"control": fields, **scripts}.items():
        (root / "DEBIAN" / name).write_text(text)
        (root / "DEBIAN" / name).chmod(0o755)
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-b", root, folder], check=True, capture_output=True
    )
    subprocess.run(["rm", "-r", root], check=True)


def asked(folder: Path, name: str, *question: str) -> list[str]:
    """Return the lines that rpm says of one of the packages in the folder."""
    (path,) = folder.glob(f"{name}-[0-9]*.rpm")
    command = ["rpm", "-qp", *question, str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three packages of Debian's kind in a folder with a blank in its name, made into rpm's."""
    folder = tmp_path_factory.mktemp("packages") / "a b"
    folder.mkdir()
    deb(
        folder,
        control("iptables", "1.8.9-2", "libfoo1 (= 1), libc6 (>= 2.34), other | netbase"),
        {"usr/sbin/iptables-nft": "#!/bin/sh\n", "usr/share/doc/iptables/copyright": "free"},
        postinst=ALTERNATIVES,
        prerm=REMOVAL,
    )
    deb(
        folder,
        control("conntrack", "1:1.4.7-1+b2"),
        {"usr/sbin/conntrack": "/bin/true", "etc/conntrack.conf": "# 5%\n"},
        postinst="#!/bin/sh\ninvoke-rc.d conntrack start\n",
        conffiles="/etc/conntrack.conf\n",
    )
    deb(folder, control("libfoo1", "1"), {"usr/lib/x86_64-linux-gnu/foo/data": "data"})
    rpms.make(folder, NAMES)
    return folder


@pytest.mark.parametrize(
    ("version", "evr"),
    [
        ("7.17-1", ("0", "7.17", "1")),
        ("1:1.4.7-1+b2", ("1", "1.4.7", "1+b2")),
        ("1.0.6-2+deb12u2", ("0", "1.0.6", "2+deb12u2")),
        ("6.4", ("0", "6.4", "0")),
        ("2:1.0-rc1-3~x", ("2", "1.0_rc1", "3~x")),
    ],
)
def test_a_version_comes_apart_into_epoch_version_and_release(
    version: str, evr: tuple[str, str, str]
) -> None:
    assert rpms.evr(version) == evr


def test_every_alternative_of_every_dependency_is_read() -> None:
    depends = "libc6 (>= 2.34), gnupg | gnupg2, perl:any, libx1 (= 1.0-1) [amd64]"
    found = rpms.package({"control": control("x", "1", depends)}, files=())
    assert found.needs == ("libc6", "gnupg", "gnupg2", "perl", "libx1")


@NEEDS_RPM
def test_only_rpms_and_their_index_are_left(made: Path) -> None:
    assert sorted(path.name for path in made.iterdir()) == [
        "conntrack-tools-1.4.7-1+b2.x86_64.rpm",
        "iptables-nft-1.8.9-2.x86_64.rpm",
        "libfoo1-1-0.x86_64.rpm",
        "repodata",
    ]


@NEEDS_RPM
def test_a_package_of_another_name_provides_its_old_one(made: Path) -> None:
    assert "iptables = 0:1.8.9-2" in asked(made, "iptables-nft", "--provides")
    assert "conntrack = 1:1.4.7-1+b2" in asked(made, "conntrack-tools", "--provides")


@NEEDS_RPM
def test_packages_need_each_other_as_debians_do_and_nothing_that_is_not_there(made: Path) -> None:
    needed = asked(made, "iptables-nft", "--requires")
    assert {"libfoo1", "/bin/sh"} <= {*needed}
    assert not {"libc6", "netbase", "other"} & {*needed}


@NEEDS_RPM
def test_a_program_needs_the_libraries_that_it_is_linked_with(made: Path) -> None:
    needed = asked(made, "conntrack-tools", "--requires")
    assert any(each.startswith("libc.so.6(GLIBC_2.") for each in needed)


@NEEDS_RPM
def test_scripts_that_name_programs_are_kept_and_those_that_start_them_are_not(made: Path) -> None:
    said = "\n".join(asked(made, "iptables-nft", "--scripts"))
    installed, removed = said.split("preuninstall scriptlet")
    assert ALTERNATIVES.strip() in installed
    assert installed.index("set -- configure") < installed.index("update-alternatives")
    assert REMOVAL.strip() in removed
    assert removed.index('[ "$1" -eq 0 ] || exit 0') < removed.index("update-alternatives")
    assert asked(made, "conntrack-tools", "--scripts") == []


@NEEDS_RPM
def test_files_are_roots_settings_are_kept_and_manuals_are_left_out(made: Path) -> None:
    line = "[%{FILENAMES} %{FILEUSERNAME} %{FILEFLAGS:fflags}\n]"
    assert asked(made, "conntrack-tools", "--qf", line) == [
        "/etc/conntrack.conf root cn",
        "/usr/sbin/conntrack root ",
    ]
    assert asked(made, "iptables-nft", "--list") == ["/usr/sbin/iptables-nft"]


@NEEDS_RPM
def test_what_rpmbuild_complains_of_is_told(tmp_path: Path) -> None:
    deb(tmp_path, control("odd", "1.0~"), {"usr/bin/odd": ""})
    with pytest.raises(Exception, match="rpmbuild failed"):
        rpms.make(tmp_path, {"odd": "a b"})
