"""How a simulated node conducts itself: drawn from its number, so that a run can be repeated."""

import argparse
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Self


class Conduct(StrEnum):
    """What a node does with a connection."""

    WELL = "well"
    """Answers at once."""
    SLOW = "slow"
    """Answers after ``Rates.latency`` seconds."""
    REFUSE = "refuse"
    """Closes every connection before a word is said."""
    MUTE = "mute"
    """Accepts, and never says a word."""
    HALF = "half"
    """Logs in, sends half of its answer, and nothing after that."""
    GARBAGE = "garbage"
    """Answers bytes that mean nothing, with torn frames among them."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """The share of nodes, 0 to 1, of each conduct that is not well; a slow node's seconds."""

    slow: float = 0.0
    refuse: float = 0.0
    mute: float = 0.0
    half: float = 0.0
    garbage: float = 0.0
    latency: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if sum(self.shares.values()) > 1:
            raise ValueError(f"the rates come to more than all nodes: {self}")

    @property
    def shares(self) -> Mapping[Conduct, float]:
        """The share of each conduct that is not well."""
        return {which: getattr(self, which) for which in Conduct if which is not Conduct.WELL}

    @staticmethod
    def add_options(parser: argparse.ArgumentParser) -> None:
        """Let a command line take rates."""
        for rate in fields(Rates):
            parser.add_argument(f"--{rate.name}", type=type(rate.default), default=rate.default)

    @property
    def words(self) -> list[str]:
        """The options of a command line that mean these rates."""
        return [f"--{rate.name}={getattr(self, rate.name)}" for rate in fields(self)]

    @classmethod
    def given(cls, options: argparse.Namespace) -> Self:
        """Return the rates that a command line was given."""
        return cls(**{rate.name: getattr(options, rate.name) for rate in fields(cls)})


def conduct(number: int, rates: Rates) -> Conduct:
    """Return how the node of this number conducts itself: the same whenever it is asked."""
    drawn = random.Random(f"{rates.seed}:{number}").random()
    for which, share in rates.shares.items():
        drawn -= share
        if drawn < 0:
            return which
    return Conduct.WELL


def by_conduct(numbers: Iterable[int], rates: Rates) -> Mapping[Conduct, list[int]]:
    """Return the nodes' numbers by how they conduct themselves."""
    found: dict[Conduct, list[int]] = {which: [] for which in Conduct}
    for number in numbers:
        found[conduct(number, rates)].append(number)
    return found
