"""The memory of a process in which large plans are made."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from sync.heap import give_back, seldom_searched


def test_the_collector_searches_seldom_until_the_last_of_several_plans_is_made() -> None:
    usual = gc.get_threshold()

    with seldom_searched():
        with seldom_searched():
            pass
        inside = gc.get_threshold()

    assert inside == (50_000, *usual[1:])
    assert gc.get_threshold() == usual


def test_a_plan_that_fails_leaves_the_collector_as_it_was() -> None:
    usual = gc.get_threshold()

    with pytest.raises(KeyError), seldom_searched():
        raise KeyError

    assert gc.get_threshold() == usual


def test_a_process_whose_collector_searches_less_often_still_is_left_so() -> None:
    usual = gc.get_threshold()
    gc.set_threshold(90_000, *usual[1:])

    try:
        with seldom_searched():
            inside = gc.get_threshold()
    finally:
        gc.set_threshold(*usual)

    assert inside == (90_000, *usual[1:])


def test_holes_between_what_stays_are_given_back() -> None:
    # Blocks beyond what Python itself keeps together, and below what the system maps one by one.
    kept = [b"x" * 60_000 for _ in range(600)][::10]
    full = _resident_pages()

    is_given = give_back()

    assert len(kept) == 60
    assert not is_given or _resident_pages() < full


def _resident_pages() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])
