"""Where settings are written: each machine gets its own settings, and no more."""

from hypothesis import given
from hypothesis import strategies as st

from nodeprep.importing.arranging import arranged, inherited
from nodeprep.importing.imported import Imported, Key, Machine, Settings

USER: Key = ("ssh", "user")
PORT: Key = ("ssh", "port")


def machine(name: str, *groups: str, **settings: str | int) -> Machine:
    values: Settings = {("ssh", key): value for key, value in settings.items()}
    return Machine(name=name, address="192.0.2.1", groups=groups, settings=values)


def test_what_all_share_is_in_the_defaults() -> None:
    layers = arranged(Imported(machines=(machine("a", user="u"), machine("b", user="u"))))
    assert (layers.defaults, layers.own) == ({USER: "u"}, ({}, {}))


def test_what_most_share_is_in_the_defaults_and_the_others_say_so_themselves() -> None:
    some = (machine("a", user="u"), machine("b", user="u"), machine("c", user="v"))
    layers = arranged(Imported(machines=some))
    assert (layers.defaults, layers.own) == ({USER: "u"}, ({}, {}, {USER: "v"}))


def test_nothing_is_in_the_defaults_that_one_machine_has_not() -> None:
    layers = arranged(Imported(machines=(machine("a", user="u"), machine("b"))))
    assert (layers.defaults, layers.own) == ({}, ({USER: "u"}, {}))


def test_what_a_group_shares_is_in_the_group() -> None:
    some = (
        machine("a", "g", port=1),
        machine("b", "g", port=1),
        machine("c", port=2),
        machine("d"),
    )
    layers = arranged(Imported(machines=some))
    assert layers.groups == {"g": {PORT: 1}}
    assert layers.own == ({}, {}, {PORT: 2}, {})


def test_a_group_keeps_what_the_source_wrote_in_it_though_one_of_it_differs() -> None:
    some = (*(machine(n, "g", port=1) for n in "abc"), machine("d", "g", port=2), machine("e"))
    layers = arranged(Imported(machines=some, written_in={"g": frozenset({PORT})}))
    assert layers.groups == {"g": {PORT: 1}}
    assert layers.own[3] == {PORT: 2}


def test_a_group_of_one_is_no_reason_to_write_it_there() -> None:
    some = (machine("a", "g", port=1), machine("b"))
    assert arranged(Imported(machines=some)).groups == {"g": {}}
    hinted = Imported(machines=some, written_in={"g": frozenset({PORT})})
    assert arranged(hinted).groups == {"g": {PORT: 1}}


def test_true_is_not_one() -> None:
    some = tuple(
        Machine(name=name, address="x", settings={USER: value})
        for name, value in {"a": True, "b": 1}.items()
    )
    assert [type(own.get(USER)) for own in arranged(Imported(machines=some)).own] == [bool, int]


KEYS = st.sampled_from([USER, PORT, ("sudo",), ("labels", "role")])
VALUES = st.sampled_from(["u", "v", 1, True, False, 0])
GROUPS = st.lists(st.sampled_from("pqrs"), unique=True, max_size=4).map(tuple)
MACHINES = st.lists(
    st.builds(
        Machine,
        name=st.just("x"),
        address=st.just("x"),
        groups=GROUPS,
        settings=st.dictionaries(KEYS, VALUES, max_size=4),
    ),
    min_size=1,
    max_size=12,
).map(tuple)
WRITTEN = st.dictionaries(st.sampled_from("pqrsz"), st.frozensets(KEYS))


@given(machines=MACHINES, written_in=WRITTEN)
def test_each_machine_gets_its_settings_and_no_more(
    machines: tuple[Machine, ...], written_in: dict[str, frozenset[Key]]
) -> None:
    layers = arranged(Imported(machines=machines, written_in=written_in))
    keys = {key for one in machines for key in one.settings}
    for one, own in zip(machines, layers.own, strict=True):
        got: Settings = {
            key: value
            for key in keys
            if (value := own.get(key, inherited(one, key, layers.groups, layers.defaults)))
            is not None
        }
        assert [(k, type(v), v) for k, v in sorted(got.items())] == [
            (k, type(v), v) for k, v in sorted(one.settings.items())
        ]
