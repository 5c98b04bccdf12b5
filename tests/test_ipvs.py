"""The kernel's IPVS table. Whole tables, as people recorded them, are in facts/ipvsadm/."""

from nodeprep import ipvs
from tests import facts


def table(system: str) -> tuple[ipvs.VirtualServer, ...]:
    return ipvs.parse(facts.recording("ipvsadm", system)["output"])


def test_an_empty_table_has_no_servers() -> None:
    assert table("empty") == ()


def test_a_complaint_of_ipvsadm_is_no_server() -> None:
    assert table("no-ipvs") == ()


def test_a_service_has_its_real_servers_and_no_others() -> None:
    counts = [len(server.real_servers) for server in table("node-ports-without-real-servers")]
    assert counts == [3, 0, 3, 3, 0, 3]


def test_real_servers_before_the_first_service_belong_to_none() -> None:
    assert table("no-header")[0].address == "10.8.222.3:9000"


def test_persistence_and_scheduler_flags_are_kept() -> None:
    assert table("node-ports-persistent")[3].flags == ("persistent", "10800")
    assert table("mh-flags")[0].flags == ("(flag-1,flag-2)",)


def test_an_address_longer_than_its_column_is_read_whole() -> None:
    assert [len(server.real_servers) for server in table("ipv6")] == [2, 1, 2]


def test_all_protocols_and_firewall_marks_are_read() -> None:
    assert [server.protocol for server in table("sctp")] == ["UDP", *["SCTP"] * 4]
    assert [server.address for server in table("tunnel-fwm-ipv6")] == ["192.168.1.1:80", "1"]


def test_a_real_server_has_its_numbers() -> None:
    assert table("fwm-route")[0].real_servers[0] == ipvs.RealServer(
        address="192.168.0.109:0", forward="Route", weight=2, active=0, inactive=1451
    )


def test_a_table_of_statistics_is_not_taken_for_one_of_servers() -> None:
    text = "FWM  296                            105116   827026   774414 55260589 51457957\n"
    assert ipvs.parse(text) == ()
