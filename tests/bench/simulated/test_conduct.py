"""How simulated nodes misbehave: by rates, and each time alike."""

import argparse

import pytest

from bench.simulated.conduct import Conduct, Rates, by_conduct, conduct

MANY = range(1, 10_001)


def test_all_nodes_are_well_where_no_rate_is_given() -> None:
    assert by_conduct(MANY, Rates())[Conduct.WELL] == list(MANY)


def test_a_rate_is_the_share_of_nodes_that_conduct_themselves_so() -> None:
    drawn = by_conduct(MANY, Rates(refuse=0.05, mute=0.1, garbage=0.2))
    shares = {which: len(numbers) / len(MANY) for which, numbers in drawn.items()}
    assert shares == pytest.approx(
        {**dict.fromkeys(Conduct, 0), "well": 0.65, "refuse": 0.05, "mute": 0.1, "garbage": 0.2},
        abs=0.02,
    )


def test_every_node_is_of_one_conduct() -> None:
    drawn = by_conduct(MANY, Rates(slow=0.2, refuse=0.2, mute=0.2, half=0.2, garbage=0.2))
    assert sorted(number for numbers in drawn.values() for number in numbers) == list(MANY)


def test_a_node_conducts_itself_alike_in_a_smaller_fleet() -> None:
    rates = Rates(half=0.5)
    assert (
        by_conduct(MANY, rates)[Conduct.HALF][:3] == by_conduct(MANY[:50], rates)[Conduct.HALF][:3]
    )


def test_another_seed_draws_other_nodes() -> None:
    assert [conduct(n, Rates(half=0.5)) for n in MANY] != [
        conduct(n, Rates(half=0.5, seed=1)) for n in MANY
    ]


def test_rates_of_more_than_all_nodes_are_refused() -> None:
    with pytest.raises(ValueError, match="more than all"):
        Rates(slow=0.6, refuse=0.6)


def test_rates_survive_a_command_line() -> None:
    rates = Rates(slow=0.25, half=0.1, latency=2.5)
    parser = argparse.ArgumentParser()
    Rates.add_options(parser)
    again = Rates.given(parser.parse_args(rates.words))
    assert by_conduct(MANY, again) == by_conduct(MANY, rates)
    assert again == rates
