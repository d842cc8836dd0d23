from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from runner.errors import MainstemError
from runner.tasks.namespace import DeleteFiles, DownloadFiles, UploadFiles

if TYPE_CHECKING:
    from tests.unit.runner.tasks.conftest import Bench


def build(kind: Any, **fields: Any) -> Any:
    return kind.model_validate({"id": "t", "type": "x", **fields})


@pytest.fixture
def shelf(bench: Bench) -> Bench:
    """Give a bench whose namespace has `a.sql`, `sql/a.sql` and `sql/deep/b.sql`, and another one `c.txt`."""
    for path in ("company.team/a.sql", "company.team/sql/a.sql", "company.team/sql/deep/b.sql", "other/c.txt"):
        file = bench.root / "files" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)
    return bench


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ("a.sql", ["/a.sql", "/sql/a.sql"]),
        ("/a.sql", ["/a.sql"]),
        (["sql/*.sql"], ["/sql/a.sql"]),
        (["glob:**/b.sql", "/a.sql"], ["/a.sql", "/sql/deep/b.sql"]),
        ('["sql/**"]', ["/sql/a.sql", "/sql/deep/b.sql"]),
        ("{{ ['/a.sql'] }}", ["/a.sql"]),
        ("nothing", []),
    ],
)
def test_download_takes_the_files_that_the_patterns_name(shelf: Bench, files: Any, found: list[str]) -> None:
    outputs = shelf.outputs(build(DownloadFiles, files=files))

    assert list(outputs["files"]) == found
    assert [shelf.content(uri) for uri in outputs["files"].values()] == [
        f"company.team{path}".encode() for path in found
    ]
    assert [(metric.name, metric.value) for metric in shelf.metrics] == [("downloaded", len(found))]


def test_download_takes_from_another_namespace_into_a_folder(shelf: Bench) -> None:
    outputs = shelf.outputs(build(DownloadFiles, namespace="{{ 'other' }}", files="**", destination="/in/"))

    assert list(outputs["files"]) == ["/in/c.txt"]
    assert shelf.content(outputs["files"]["/in/c.txt"]) == b"other/c.txt"


@pytest.mark.parametrize(
    ("task", "code"),
    [
        (build(UploadFiles), "namespace.files.missing"),
        (build(UploadFiles, files="*.nothing"), "namespace.files.missing"),
        (build(UploadFiles, filesMap={"../x": "nsfile:///a.sql"}), "namespace.path.invalid"),
        (build(UploadFiles, filesMap=[1]), "task.property.invalid"),
        (build(UploadFiles, filesMap="{"), "task.property.invalid"),
        (build(UploadFiles, filesMap={"x": "nsfile:///a.sql"}, conflict="MERGE"), "task.property.invalid"),
        (build(UploadFiles, filesMap={"x": "nsfile:///a.sql"}), "namespace.files.readonly"),
        (build(UploadFiles, filesMap={"x": "kestra:///else/f/executions/1/x"}), "storage.file.refused"),
        (build(UploadFiles, namespace="other", filesMap={"x": "nsfile:///a.sql"}), "task.namespace.refused"),
        (build(DeleteFiles, namespace="company", files="**"), "task.namespace.refused"),
        (build(DeleteFiles, files="**"), "namespace.files.readonly"),
        (build(DeleteFiles, files="../**"), "file.glob.invalid"),
        (build(DeleteFiles, files="regex:.*"), "file.glob.invalid"),
        (build(DownloadFiles, files={"a": "b"}), "task.property.invalid"),
        (build(DownloadFiles, files="/a.sql", destination="../x"), "namespace.path.invalid"),
    ],
)
def test_what_cannot_be_done_fails_with_its_reason(shelf: Bench, task: Any, code: str) -> None:
    with pytest.raises(MainstemError) as caught:
        shelf.run(task)

    assert caught.value.code == code


def test_a_file_too_large_for_git_is_refused(shelf: Bench) -> None:
    uri = shelf.file("large", b"x" * (10 * 1024 * 1024 + 1))

    with pytest.raises(MainstemError) as caught:
        shelf.run(build(UploadFiles, filesMap={"large": uri}))

    assert caught.value.code == "namespace.file.large"
