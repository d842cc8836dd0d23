from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from runner.errors import MainstemError, TaskError
from runner.tasks.storage import (
    Concat,
    Delete,
    LocalFiles,
    PurgeCurrentExecutionFiles,
    Reverse,
    Size,
    Split,
    Write,
)

if TYPE_CHECKING:
    from tests.unit.runner.tasks.conftest import Bench


def build(kind: Any, **fields: Any) -> Any:
    return kind.model_validate({"id": "t", "type": "x", **fields})


@pytest.mark.parametrize(("extension", "end"), [(".txt", ".txt"), ("csv", ".csv"), (None, "")])
def test_write_stores_its_content(bench: Bench, extension: str | None, end: str) -> None:
    uri = bench.outputs(build(Write, content="in {{ flow.id }}", extension=extension))["uri"]

    assert bench.content(uri) == b"in flow"
    assert uri.startswith("kestra:///company/team/flow/executions/exec1/tasks/t/run1/")
    assert uri.endswith(end)


@pytest.mark.parametrize("as_text", [False, True])
def test_concat_puts_the_separator_after_each_file(bench: Bench, as_text: bool) -> None:  # noqa: FBT001 - a table
    uri = bench.file("a.yml", b"abc")
    files: Any = f'["{uri}", "{uri}"]' if as_text else [uri, "{{ inputs.data }}"]

    outputs = bench.outputs(build(Concat, files=files, separator="\n", extension=".yml"), inputs={"data": uri})

    assert bench.content(outputs["uri"]) == b"abc\nabc\n"
    assert outputs["uri"].endswith(".yml")


@pytest.mark.parametrize(
    ("content", "reversed_"), [(b"1\n2\n3\n", b"3\n2\n1\n"), (b"1\n2", b"2\n1\n"), (b"", b""), (b"\n", b"\n")]
)
def test_reverse_turns_the_rows_round(bench: Bench, content: bytes, reversed_: bytes) -> None:
    uri = bench.outputs(build(Reverse, **{"from": bench.file("a.yml", content)}))["uri"]

    assert bench.content(uri) == reversed_
    assert uri.endswith(".yml")


ROWS = b"".join(b"%20d\n" % number for number in range(12_288))


@pytest.mark.parametrize(
    ("options", "content", "pieces"),
    [
        ({"rows": 2}, b"1\n2\n3", [b"1\n2\n", b"3"]),
        ({"partitions": 2}, b"1\n2\n3\n", [b"1\n3\n", b"2\n"]),
        ({"partitions": 8}, b"1\n2\n", [b"1\n", b"2\n"]),
        ({"bytes": "3B"}, b"1\n2\n3\n", [b"1\n2\n", b"3\n"]),
        ({"rows": 1, "separator": ";"}, b"a;b", [b"a;", b"b"]),
        ({"rows": 1}, b"", []),
    ],
)
def test_split_cuts_between_rows(bench: Bench, options: dict[str, Any], content: bytes, pieces: list[bytes]) -> None:
    uris = bench.outputs(build(Split, **{"from": bench.file("a.txt", content)}, **options))["uris"]

    assert [bench.content(uri) for uri in uris] == pieces


def test_a_piece_ends_with_the_row_that_reaches_the_size(bench: Bench) -> None:
    uris = bench.outputs(build(Split, **{"from": bench.file("a.txt", ROWS), "bytes": "1KB"}))["uris"]

    assert len(uris) == 251  # what Kestra makes of these rows
    assert b"".join(bench.content(uri) for uri in uris) == ROWS


def test_split_must_be_told_how(bench: Bench) -> None:
    with pytest.raises(TaskError, match="must be given"):
        bench.run(build(Split, **{"from": bench.file("a.txt", b"1\n")}))
    with pytest.raises(TaskError, match="is no size"):
        bench.run(build(Split, **{"from": bench.file("a.txt", b"1\n")}, bytes="much"))


def test_size_and_delete_work_on_files_of_the_execution(bench: Bench) -> None:
    uri = bench.file("a.txt", b"12345")

    size = bench.outputs(build(Size, uri=uri))
    deleted = [bench.outputs(build(Delete, uri=uri)) for _ in range(2)]

    assert size == {"size": 5}
    assert deleted == [{"uri": uri, "deleted": True}, {"uri": uri, "deleted": False}]
    with pytest.raises(TaskError, match="Unable to find"):
        bench.run(build(Delete, uri=uri, errorOnMissing=True))


@pytest.mark.parametrize(
    "uri",
    [
        "kestra:///company/team/flow/executions/other/inputs/a",
        "kestra:///company/other/_files/a",
        "kestra:///company/team/flow/executions/exec1/../other/a",
    ],
)
def test_files_of_others_are_neither_read_nor_removed(bench: Bench, uri: str) -> None:
    for task in (build(Size, uri=uri), build(Concat, files=[uri])):
        with pytest.raises(MainstemError):
            bench.run(task)
    with pytest.raises(MainstemError):
        bench.run(build(Delete, uri=uri))


def test_local_files_go_into_the_directory_and_out_of_it(bench: Bench) -> None:
    inputs = {"a/hello.txt": "Hello {{ flow.id }}", "data.txt": "{{ inputs.data }}", "empty": None, "n.json": {"a": 1}}
    task = build(LocalFiles, inputs=inputs, outputs=["a/*", "data.txt", "empty", "*.json"])

    uris = bench.outputs(task, inputs={"data": bench.file("d", b"stored")})["uris"]

    assert {path: bench.content(uri) for path, uri in uris.items()} == {
        "a/hello.txt": b"Hello flow",
        "data.txt": b"stored",
        "empty": b"",
        "n.json": b'{"a":1}',
    }


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "", "a\\b", "a\nb"])
def test_input_files_stay_in_the_directory(bench: Bench, name: str) -> None:
    with pytest.raises(TaskError) as caught:
        bench.run(build(LocalFiles, inputs={name: "x"}))

    assert caught.value.code == "file.path.refused"


def test_purge_removes_all_files_of_the_execution(bench: Bench) -> None:
    uris = [bench.file(name, b"x") for name in ("a", "b")]

    assert bench.outputs(build(PurgeCurrentExecutionFiles)) == {"uris": uris}
    assert not any(bench.host.storage.exists(uri) for uri in uris)
