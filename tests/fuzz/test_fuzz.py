"""The short form of `python -m tests.fuzz`: a few thousand seeded inputs, and everything that was ever found."""

from __future__ import annotations

import pytest

from tests.fuzz.mutator import Mutator
from tests.fuzz.targets import EXPRESSIONS, LOADER, TARGETS, Target

_INPUTS = 2_000

pytestmark = pytest.mark.usefixtures("frozen_heap")


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_mutated_inputs_are_answered_in_time(target: Target) -> None:
    mutator = Mutator(target, seed=20240131)

    far = 0
    for _ in range(_INPUTS):
        data = mutator.next()
        if target.timed(data):
            mutator.keep(data)
            far += 1

    assert far > _INPUTS / 10  # else the mutator only makes rubbish


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_what_was_found_once_is_answered_now(target: Target) -> None:
    for data in target.corpus():
        target.timed(data)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_seeds_are_good(target: Target) -> None:
    assert all(target.timed(seed.encode()) for seed in target.seeds)


def test_the_same_seed_makes_the_same_inputs() -> None:
    one, other, third = (Mutator(EXPRESSIONS, seed) for seed in (1, 1, 2))

    made = [[mutator.next() for _ in range(50)] for mutator in (one, other, third)]

    assert made[0] == made[1] != made[2]


def test_inputs_keep_their_size() -> None:
    mutator = Mutator(LOADER, 1)

    assert all(len(mutator.next()) <= LOADER.size for _ in range(500))
