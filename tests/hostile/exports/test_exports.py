"""What somebody else calls an export of Kestra, and what they call its server."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from runner.errors import MainstemError
from sync.kestra.assessment import Verdict, assess
from sync.kestra.places import documents, of_export
from sync.kestra.server import Access
from tests.servers.kestra import KestraServer, serving

FLOW = "id: a\nnamespace: x\ntasks: []\n"


def _zip(entries: dict[str, str], **options: Any) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, text in entries.items():
            archive.writestr(name, text)
    return packed.getvalue()


def _refused(content: bytes) -> str:
    with pytest.raises(MainstemError) as caught:
        list(of_export(content, "flows.zip"))
    return caught.value.code


def _changed(content: bytes, at: int, new: bytes) -> bytes:
    return content[:at] + new + content[at + len(new) :]


def test_an_entry_that_unpacks_to_gigabytes_is_read_up_to_the_limit_of_a_flow() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.yml", "w") as entry:
        for _ in range(64):
            entry.write(b"#" * (1 << 20))

    sources = list(of_export(packed.getvalue(), "bomb.zip"))

    assert [len(source.text) for source in sources] == [(1 << 20) + 1]
    assert assess(sources[0]).reasons[0].subject == "yaml.file.large"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        b"PK\x05\x06" + b"\0" * 17,
        _zip({"a.yml": FLOW})[:-30],
        _changed(_zip({"a.yml": FLOW * 50}), 45, b"\xff" * 12),  # its data are damaged
    ],
    ids=["empty", "begun", "no directory", "cut off", "damaged"],
)
def test_what_is_no_whole_zip_is_refused(content: bytes) -> None:
    assert _refused(content) == "kestra.export.invalid"


def test_an_encrypted_export_is_refused() -> None:
    content = _zip({"a.yml": FLOW})
    directory = content.index(b"PK\x01\x02")
    for flags in (6, directory + 8):  # the bit that says so, in both headers
        content = _changed(content, flags, struct.pack("<H", 1))

    assert _refused(content) == "kestra.export.invalid"


def test_more_entries_than_anybody_has_flows_are_refused() -> None:
    assert _refused(_zip({f"{number}.yml": "" for number in range(50_001)})) == "kestra.export.invalid"


def test_names_that_climb_out_of_the_export_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flows.zip").write_bytes(_zip({"../../up.yml": FLOW, "/etc/abs.yml": FLOW, "\x1b[2J.yml": FLOW}))

    found = list(documents("flows.zip", Access()))

    assert len(found) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["flows.zip"]


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "&a [*a]\n", "a: !!python/object/apply:os.system [id]\n", "\0" * 100, "{{"]
)
def test_any_text_has_a_verdict(text: str) -> None:
    (source, *_) = of_export(_zip({"a.yml": text}), "flows.zip")

    assert assess(source).verdict in set(Verdict)


class Liar(KestraServer):
    """A server that has one answer to everything."""

    said: bytes = b""

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, str, bytes]:  # noqa: ARG002 - the server's
        return (404, "text/plain", b"") if path.endswith("by-query") else (200, "application/json", self.said)


@pytest.mark.parametrize(
    "said",
    [
        b"<html>",
        b"null",
        b"[]",
        b"[" * 100_000,
        b'{"results": 5, "total": 1}',
        b'{"results": [], "total": "many"}',
    ],
)
def test_a_server_that_answers_nonsense_is_none_of_kestra(said: bytes) -> None:
    liar = Liar({})
    liar.said = said

    with serving(liar) as server, pytest.raises(MainstemError) as caught:
        list(documents(server.url, Access()))

    assert caught.value.code == "kestra.server.unknown"


@pytest.mark.parametrize("said", [b"<html>", b"[]", b'{"source": 5}', b"{}"])
def test_a_flow_whose_source_is_not_given_is_not_left_out_silently(said: bytes) -> None:
    class Odd(KestraServer):
        def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, str, bytes]:
            answer = super().answer(path, query)
            return (200, "application/json", said) if path.endswith("/flows/x/a") else answer

    with serving(Odd({("x", "a"): FLOW}, has_export=False)) as server, pytest.raises(MainstemError) as caught:
        list(documents(server.url, Access()))

    assert caught.value.code == "kestra.server.unknown"
    assert "the source of x.a" in caught.value.message


def test_a_server_that_promises_flows_without_end_is_left_after_an_empty_page() -> None:
    class Endless(KestraServer):
        def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, str, bytes]:
            if path.endswith("/search") and int(query["page"][0]) < 4:
                results = [{"namespace": "x", "id": f"f{query['page'][0]}"}]
                return 200, "application/json", json.dumps({"results": results, "total": 10**12}).encode()
            if path.endswith("/search"):
                return 200, "application/json", b'{"results": [], "total": 1000000000000}'
            return (404, "text/plain", b"") if "export" in path else (200, "application/json", b'{"source": "id: a"}')

    with serving(Endless({})) as server:
        found = list(documents(server.url, Access()))

    assert [source.file for source in found] == ["x.f1.yml", "x.f2.yml", "x.f3.yml"]


def test_names_of_flows_stay_in_the_path_they_are_asked_with() -> None:
    flows = {("a/../..", "b?c#d"): FLOW}

    with serving(KestraServer(flows, has_export=False)) as server:
        found = list(documents(server.url, Access()))

    assert [source.text for source in found] == [FLOW]
    assert all(path.startswith(("/api/v1/main/flows/", "/info/refs")) for path in server.asked)
