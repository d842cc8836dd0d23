from __future__ import annotations

import threading

from runner.quota import Quota


def test_what_is_more_is_counted_and_told_by_the_next_one() -> None:
    now = [0.0]
    quota = Quota(2, monotonic=lambda: now[0])

    first = [quota.take("a") for _ in range(5)]
    other = quota.take("b")
    now[0] = 60.0
    later = [quota.take("a"), quota.take("a")]

    assert first == [0, 0, None, None, None]
    assert other == 0
    assert later == [3, 0]


def test_keys_from_outside_take_no_more_memory_than_a_thousand() -> None:
    now = [0.0]
    quota = Quota(1, monotonic=lambda: now[0])

    let_through = sum(quota.take(str(number)) is not None for number in range(5_000))
    now[0] = 61.0
    again = quota.take("4999")

    assert let_through == 1_001
    assert again is not None
    assert len(quota._windows) <= 1_001


def test_threads_together_get_no_more_than_one_quota() -> None:
    quota = Quota(50)
    found: list[int | None] = []

    def take() -> None:
        found.extend(quota.take("a") for _ in range(100))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(each is not None for each in found) == 50
