"""Functions that answer from the services."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest

from runner.errors import ExpressionError
from runner.expressions import Scope, Services, render


class _Services:
    """Fixed answers."""

    zone = ZoneInfo("Europe/Paris")
    files = {"a.txt": b"hello", "kestra:///ns/my-flow/executions/e1/tasks/t/1/x": b"own"}  # noqa: RUF012 - never changed

    def now(self) -> datetime:
        return datetime(2024, 6, 1, 12, 0, tzinfo=UTC)

    def secret(self, key: str, namespace: str | None = None, subkey: str | None = None) -> str:
        return f"{key}/{namespace}/{subkey}"

    def kv(self, key: str, namespace: str | None = None, *, error_on_missing: bool = True) -> Any:
        return {"key": key, "namespace": namespace, "strict": error_on_missing}

    def read_file(self, uri_or_path: str) -> bytes:
        return self.files[uri_or_path]

    def file_size(self, uri: str) -> int:
        return len(self.files[uri])

    def file_exists(self, uri: str) -> bool:
        return uri in self.files

    def file_uri(self, path: str) -> str:
        return f"kestra:///ns/_files/{path}"

    def random_int(self, lower: int, upper: int) -> int:
        return max(lower, upper - 1)

    def random_bytes(self, count: int) -> bytes:
        return bytes(range(count))

    def new_id(self) -> str:
        return "id1"

    def tasks_with_state(self, state: str) -> list[dict[str, Any]]:
        return [{"taskId": "t", "state": state}]

    def environment(self, name: str, default: str | None = None) -> str | None:
        return {"A": "1"}.get(name, default)

    def http(self, uri: str, **options: Any) -> Any:
        return {"uri": uri, "method": options["method"], "accept": options["accept"]}


_SCOPE = Scope(
    {
        "flow": {"namespace": "ns", "id": "my_flow"},
        "execution": {"id": "e2", "originalId": "e1"},
        "outputs": {"each": {"v1": {"v2": {"value": "deep"}}}},
        "parents": [{"taskrun": {"value": "v1"}, "outputs": {"x": 1}}],
        "taskrun": {"value": "v2"},
        "key": "0123456789abcdef0123456789abcdef",
    },
    cast("Services", _Services()),
)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ now() }}", "2024-06-01T14:00:00.000000+02:00"),
        ("{{ now(format='HH:mm', timeZone='UTC') }}", "12:00"),
        ("{{ secret('A') }} {{ secret('A', 'ns', subkey='k') }}", "A/None/None A/ns/k"),
        ("{{ secret('A', subkey='k', full=true).value }}", "A/None/k"),
        ("{{ kv('k').strict }} {{ kv('k', 'ns', false) }}", 'true {"key":"k","namespace":"ns","strict":false}'),
        ("{{ kv('k', errorOnMissing='false').strict }}", "false"),
        ("{{ read('a.txt') }} {{ fileSize('a.txt') }} {{ isFileEmpty('a.txt') }}", "hello 5 false"),
        ("{{ read('kestra:///ns/my-flow/executions/e1/tasks/t/1/x') }} {{ fileExists('b.txt') }}", "own false"),
        ("{{ fileURI('a.txt') }}", "kestra:///ns/_files/a.txt"),
        ("{{ randomInt(1, 10) }} {{ randomInt(3, 3) }} {{ id() }}", "9 3 id1"),
        ("{{ nanoId() | length }} {{ nanoId(4, 'a') }} {{ ksuid() | length }}", "21 aaaa 27"),
        ("{{ tasksWithState('failed') | first }}", '{"taskId":"t","state":"FAILED"}'),
        ("{{ env('A') }} {{ env('B', 'none') }}", "1 none"),
        ("{{ http('http://x', method='post').method }}", "POST"),
        ("{{ currentEachOutput(outputs.each).value }} {{ parentOutput() }}", 'deep {"x":1}'),
        ("{{ decrypt(key, encrypt(key, 'plain')) }}", "plain"),
    ],
)
def test_functions_answer_from_the_services(template: str, expected: str) -> None:
    assert render(template, _SCOPE) == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ randomInt('1', 2) }}", "expects an argument 'lower' with type integer"),
        ("{{ randomInt(5, 1) }}", "is less than lower"),
        ("{{ randomInt(5) }}", "expects an argument 'upper'"),
        ("{{ fileURI('../x') }}", "Path must not contain '../'"),
        ("{{ read('kestra:///ns/my-flow/executions/e1/%2e%2e/e3/x') }}", "Path must not contain '../'"),
        ("{{ fromJson(1) }}", "The 'fromJson' function expects an argument 'json' with type string."),
        ("{{ fromJson('{a') }}", "Invalid json"),
        ("{{ decrypt(key, 'AAAA') }}", "cannot be decrypted"),
        ("{{ decrypt('short', 'AAAA') }}", "an encryption key has"),
        ("{{ yaml('a: [') }}", "Invalid yaml"),
        ("{{ yaml('a: 1\na: 2') }}", "duplicate key 'a'"),
        ("{{ fromIon('{a 1}') }}", "Invalid ion"),
        ("{{ isPublicHoliday('2024-01-01', 'XX') }}", "no holidays are known for XX"),
        ("{{ max() }}", "at least one argument"),
    ],
)
def test_functions_say_what_is_wrong(template: str, message: str) -> None:
    with pytest.raises(ExpressionError) as raised:
        render(template, _SCOPE)

    assert message in raised.value.message
