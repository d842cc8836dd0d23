"""How many long readings may go on at once, and what becomes of the others."""

from __future__ import annotations

import threading

import pytest

from runner.errors import InvalidError
from runner.store.bounds import Turns


def test_what_finds_no_turn_in_its_time_is_told_so() -> None:
    turns = Turns(1)

    with turns.taken(1, "this"), pytest.raises(InvalidError) as caught, turns.taken(0.01, "the other"):
        pytest.fail("two at once")

    assert (caught.value.code, caught.value.message) == ("store.query.slow", "the other waited 0.01 s behind others")


def test_a_turn_is_free_again_however_its_block_ends() -> None:
    turns = Turns(1)

    for _ in range(3):
        with pytest.raises(ZeroDivisionError), turns.taken(1, "this"):
            raise ZeroDivisionError
    with pytest.raises(InvalidError), turns.taken(1, "this"), turns.taken(0.01, "another"):
        pytest.fail("two at once")

    with turns.taken(0.01, "this"):
        pass  # neither a failure nor a wait in vain has cost or given a turn


def test_no_more_are_at_it_at_once_than_may_be() -> None:
    turns, lock, at_it, most = Turns(2), threading.Lock(), [0], [0]
    both = threading.Barrier(2, timeout=20)

    def read() -> None:
        with turns.taken(20, "this"):
            with lock:
                at_it[0] += 1
                most[0] = max(most[0], at_it[0])
            both.wait()  # so that two are at it whenever one is
            with lock:
                at_it[0] -= 1

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert (most, at_it) == ([2], [0])
