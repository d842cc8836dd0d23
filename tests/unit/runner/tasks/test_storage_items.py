from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from runner.errors import TaskError
from runner.tasks.storage import DeduplicateItems, FilterItems

if TYPE_CHECKING:
    from tests.unit.runner.tasks.conftest import Bench

ROWS = b'{key:"k1",value:1}\n{key:"k2",value:"dummy"}\n\n{"key":"k3","value":3}\n{key:"k4",value:4}'


def build(kind: Any, **fields: Any) -> Any:
    return kind.model_validate({"id": "t", "type": "x", **fields})


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"filterCondition": "{{ key == 'k1' }}"}, [b"k1"]),
        ({"filterCondition": " {{ key == 'k1' }} ", "filterType": "EXCLUDE"}, [b"k2", b"k3", b"k4"]),
        ({"filterCondition": "{{ value }}"}, [b"k1", b"k2", b"k3", b"k4"]),
        ({"filterCondition": "{{ value % 2 == 0 }}", "errorOrNullBehavior": "INCLUDE"}, [b"k2", b"k4"]),
        ({"filterCondition": "{{ value % 2 == 0 }}", "errorOrNullBehavior": "EXCLUDE"}, [b"k4"]),
        ({"filterCondition": "{{ absent ?? null }}", "errorOrNullBehavior": "EXCLUDE"}, []),
    ],
)
def test_rows_are_kept_by_a_condition_on_their_fields(bench: Bench, fields: dict[str, Any], kept: list[bytes]) -> None:
    outputs = bench.outputs(build(FilterItems, **{"from": bench.file("a.ion", ROWS)}, **fields))

    content = bench.content(outputs["uri"])
    assert [key for key in (b"k1", b"k2", b"k3", b"k4") if key in content] == kept
    assert (outputs["processedItemsTotal"], outputs["droppedItemsTotal"]) == (4, 4 - len(kept))


def test_a_row_that_cannot_be_decided_fails_the_task(bench: Bench) -> None:
    task = build(FilterItems, **{"from": bench.file("a.ion", ROWS)}, filterCondition="{{ value % 2 == 0 }}")

    with pytest.raises(TaskError, match="row 2"):
        bench.run(task)


def test_of_rows_with_the_same_key_the_last_stays(bench: Bench) -> None:
    rows = b'{"k":"a","v":1}\n{"k":"b","v":2}\n{"k":"a","v":3}\n'

    outputs = bench.outputs(build(DeduplicateItems, **{"from": bench.file("a.jsonl", rows)}, expr="{{ k }}"))

    assert bench.content(outputs.pop("uri")) == b'{"k":"b","v":2}\n{"k":"a","v":3}\n'
    assert outputs == {"numKeys": 2, "processedItemsTotal": 3, "droppedItemsTotal": 1}


def test_a_line_that_is_no_row_is_named(bench: Bench) -> None:
    with pytest.raises(TaskError, match="line 2"):
        bench.run(build(DeduplicateItems, **{"from": bench.file("a.ion", b"{a:1}\n{a:")}, expr="{{ a }}"))
