"""The host's apt configuration, read and left alone."""

from pathlib import Path

from nodeprep.lab.mirror import (
    Archive,
    Mirror,
    PrivateApt,
    parse_index_targets,
    parse_transport_options,
)

# Recorded from `apt-get indextargets`; the addresses are invented.
TARGETS = """\
Packages\tDebian\tbookworm\tmain\thttp://mirror.example/debian/\tbookworm
Packages\tDebian\tbookworm\tcontrib\thttp://mirror.example/debian/\tbookworm
Translations\tDebian\tbookworm\tmain\thttp://mirror.example/debian/\tbookworm
Packages\tDebian\tbookworm-updates\tmain\thttp://mirror.example/debian/\tbookworm-updates
Packages\tDebian\tbookworm-security\tmain\thttp://mirror.example/security/\tbookworm-security
Packages\tDebian Backports\tbookworm-backports\tmain\thttp://mirror.example/debian/\tbackports
Packages\tSomebody\tbookworm\tmain\thttps://packages.example/apt/\tbookworm
Packages\tDebian\ttrixie\tmain\thttp://mirror.example/debian/\ttrixie
Packages\t\t\tmain\thttps://never-updated.example/\tbookworm
"""

DUMP = """\
Acquire "";
Acquire::AllowInsecureRepositories "0";
Acquire::cdrom "";
Acquire::cdrom::mount "/media/cdrom/";
Acquire::IndexTargets::deb::Packages::Optional "0";
Acquire::Changelogs::URI::Origin::Debian "https://changelogs.example";
Acquire::Check-Valid-Until "false";
Acquire::http "";
Acquire::http::Proxy "http://proxy.example:3128";
Acquire::https::CAInfo "/etc/ssl/own.pem";
Acquire::GzipIndexes "true";
Acquire::Languages "";
Acquire::Languages:: "none";
Acquire::CompressionTypes::xz "xz";
"""


def test_only_debians_own_bookworm_is_taken() -> None:
    assert parse_index_targets(TARGETS) == (
        Archive(suite="bookworm", uri="http://mirror.example/debian/"),
        Archive(suite="bookworm-security", uri="http://mirror.example/security/"),
        Archive(suite="bookworm-updates", uri="http://mirror.example/debian/"),
    )


def test_a_host_without_lists_has_no_archive() -> None:
    assert parse_index_targets("") == ()
    assert parse_index_targets("something else entirely\n") == ()


def test_what_says_how_to_reach_a_mirror_goes_along_and_nothing_else() -> None:
    assert parse_transport_options(DUMP) == (
        'Acquire::AllowInsecureRepositories "0";',
        'Acquire::Check-Valid-Until "false";',
        'Acquire::http::Proxy "http://proxy.example:3128";',
        'Acquire::https::CAInfo "/etc/ssl/own.pem";',
    )


def test_a_source_names_the_keyring_that_signs_it() -> None:
    archive = Archive(suite="bookworm", uri="http://mirror.example/debian/")
    assert archive.line("deb-src", Path("/keys.gpg")) == (
        "deb-src [signed-by=/keys.gpg] http://mirror.example/debian/ bookworm main"
    )
    assert archive.line("deb", None) == "deb http://mirror.example/debian/ bookworm main"


def test_every_suite_is_a_line() -> None:
    mirror = Mirror(archives=parse_index_targets(TARGETS), options=())
    assert len(mirror.sources().splitlines()) == 3
    assert all(line.startswith("deb-src ") for line in mirror.sources("deb-src").splitlines())


def test_a_private_apt_reads_nothing_of_the_hosts_configuration() -> None:
    apt = PrivateApt(folder=Path("/private"), status=Path("/image/dpkg-status"))
    text = apt.configuration(('Acquire::http::Proxy "http://proxy.example:3128";',))
    assert 'Dir::Etc::main "/dev/null";' in text
    assert 'Dir::Etc::parts "/private/parts";' in text
    assert 'Dir::State::status "/image/dpkg-status";' in text
    assert text.endswith('Acquire::http::Proxy "http://proxy.example:3128";\n')
