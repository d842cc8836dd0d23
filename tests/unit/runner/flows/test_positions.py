"""Looking up places, through rewrites."""

from __future__ import annotations

from runner.flows.positions import Mark, Path, Positions


def _positions(*moves: dict[Path, Path]) -> Positions:
    values: dict[Path, Mark] = {(): Mark(1, 1), ("a",): Mark(2, 1), ("a", 0): Mark(3, 1), ("b",): Mark(9, 1)}
    return Positions(values=values, keys={("b",): Mark(8, 1)}, moves=list(moves))


def test_the_nearest_enclosing_place_is_given_where_there_is_none() -> None:
    positions = _positions()

    assert positions.at(("a", 0, "deep", 5)) == (3, 1)
    assert positions.at(("nothing",)) == (1, 1)
    assert Positions().at(("x",)) == (1, 1)


def test_a_key_has_a_place_of_its_own() -> None:
    positions = _positions()

    assert positions.key(("b",)) == (8, 1)
    assert positions.key(("a", 0)) == (3, 1)


def test_moves_are_undone_from_the_last_to_the_first() -> None:
    positions = _positions({("c",): ("b",)}, {("d", "e"): ("c",)})

    assert positions.origin(("d", "e", 1)) == ("b", 1)
    assert positions.at(("d", "e")) == (9, 1)
    assert positions.key(("d", "e")) == (8, 1)


def test_the_longest_moved_beginning_counts() -> None:
    positions = _positions({("x",): ("a",), ("x", 0): ("b",)})

    assert positions.origin(("x", 0, "k")) == ("b", "k")
    assert positions.origin(("x", 1)) == ("a", 1)
