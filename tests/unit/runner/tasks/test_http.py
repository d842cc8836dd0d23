from __future__ import annotations

import base64
import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from runner.errors import ExpressionError, TaskError
from runner.tasks.debug import Return
from runner.tasks.http import Download, Request, fetch_for_expression

if TYPE_CHECKING:
    from tests.unit.runner.tasks.conftest import Bench


class _Handler(BaseHTTPRequestHandler):
    """Answers with what it was asked, as JSON, except at the paths below."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        method = getattr(self, "_at_" + self.path.split("?")[0].strip("/").replace("/", "_").partition(".")[0], None)
        if method is not None:
            method(body)
            return
        said = {
            "method": self.command,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": body.decode("latin-1"),
        }
        self._send(200, json.dumps(said).encode(), {"Content-Type": "application/json"})

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _answer  # noqa: N815 - names of the base class

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _at_fail(self, _body: bytes) -> None:
        self._send(417, b'{"hello": "world"}', {"X-Given-Case": "a"})

    def _at_empty(self, _body: bytes) -> None:
        self._send(200, b"", {})

    def _at_latin(self, _body: bytes) -> None:
        self._send(200, "größe".encode("latin-1"), {"Content-Type": "text/plain; charset=iso-8859-1"})

    def _at_zipped(self, _body: bytes) -> None:
        data = gzip.compress(b"0" * 5_000_000)
        self._send(200, data, {"Content-Encoding": "gzip"})

    def _at_named(self, _body: bytes) -> None:
        self._send(200, b"content", {"Content-Disposition": 'attachment; filename="../../etc/re port.csv"'})

    def _at_short(self, _body: bytes) -> None:
        self._send(200, b"12345", {"Content-Length": "10"})
        self.close_connection = True

    def _at_drip(self, _body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        try:
            for _ in range(1000):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.05)
        except OSError:
            self.close_connection = True

    def _at_multipart(self, body: bytes) -> None:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        parts: Any = BytesParser(policy=HTTP).parsebytes(head + body)
        said = [
            [part.get_param("name", header="content-disposition"), part.get_filename(), part.get_payload(decode=True)]
            for part in parts.iter_parts()
        ]
        text = json.dumps([[name, file, content.decode()] for name, file, content in said])
        self._send(200, text.encode(), {"Content-Type": "application/json"})

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def build(kind: Any, **fields: Any) -> Any:
    return kind.model_validate({"id": "t", "type": "x", **fields})


def said(bench: Bench, **fields: Any) -> dict[str, Any]:
    """Make a request and return what the server was told."""
    outputs = bench.outputs(build(Request, **fields))
    told: dict[str, Any] = json.loads(outputs["body"])
    return told


def test_an_answer_has_its_code_headers_and_text(bench: Bench, base: str) -> None:
    outputs = bench.outputs(build(Request, uri=f"{base}/{{{{ flow.id }}}}"))

    assert outputs["code"] == 200
    assert outputs["uri"] == f"{base}/flow"
    assert outputs["headers"]["Content-Type"] == ["application/json"]
    assert json.loads(outputs["body"])["method"] == "GET"
    assert outputs["encryptedBody"] is None


def test_the_parts_of_a_json_answer_can_be_named(bench: Bench, base: str) -> None:
    outputs = bench.outputs(build(Request, uri=base, method="POST"))

    text = bench.outputs(
        build(Return, format="{{ inputs.body.method }} {{ fromJson(inputs.body).path }} {{ inputs.body.none ?? '-' }}"),
        inputs={"body": outputs["body"]},
    )

    assert text == {"value": "POST / -"}


@pytest.mark.parametrize(
    ("fields", "body", "kind"),
    [
        ({"body": "hello {{ flow.id }}"}, "hello flow", "text/plain; charset=utf-8"),
        ({"body": '{"a": 1}'}, '{"a": 1}', "application/json"),
        ({"body": {"a": "{{ flow.id }}"}}, '{"a":"flow"}', "application/json"),
        ({"body": "<a/>", "contentType": "application/xml"}, "<a/>", "application/xml"),
        ({"body": "x", "headers": {"content-type": "text/csv"}}, "x", "text/csv"),
        ({"formData": {"a": "ä {{ flow.id }}", "b": 1}}, "a=%C3%A4+flow&b=1", "application/x-www-form-urlencoded"),
    ],
)
def test_a_body_is_sent_with_its_type(bench: Bench, base: str, fields: dict[str, Any], body: str, kind: str) -> None:
    told = said(bench, uri=base, method="POST", **fields)

    assert (told["method"], told["body"], told["headers"]["content-type"]) == ("POST", body, kind)


def test_headers_and_parameters_are_rendered(bench: Bench, base: str) -> None:
    told = said(
        bench,
        uri=f"{base}/a b?x=1",
        headers={"X-Flow": "{{ flow.id }}", "X-Number": 5, "X-None": None},
        params={"q": "{{ flow.id }} & co", "list": [1, True]},
    )

    assert told["path"] == "/a%20b?x=1&q=flow+%26+co&list=1&list=true"
    assert (told["headers"]["x-flow"], told["headers"]["x-number"]) == ("flow", "5")
    assert "x-none" not in told["headers"]


BASIC = "Basic " + base64.b64encode(b"me:hunter2 rules").decode()


@pytest.mark.parametrize(
    ("options", "header"),
    [
        ({"auth": {"type": "BASIC", "username": "me", "password": "{{ secret('password') }}"}}, BASIC),
        ({"basicAuthUser": "me", "basicAuthPassword": "{{ secret('password') }}"}, BASIC),
        ({"auth": {"type": "BEARER", "token": "{{ flow.id }}"}}, "Bearer flow"),
    ],
)
def test_both_shapes_of_credentials_work(bench: Bench, base: str, options: dict[str, Any], header: str) -> None:
    assert said(bench, uri=base, options=options)["headers"]["authorization"] == header


def test_files_are_sent_as_parts_of_a_form(bench: Bench, base: str) -> None:
    uri = bench.file("a.yml", b"abc")
    form = {"hello": "world", "file": {"name": "test.yml", "content": "{{ inputs.data }}"}, "other": uri}
    task = build(Request, uri=f"{base}/multipart", method="POST", contentType="multipart/form-data", formData=form)

    outputs = bench.outputs(task, inputs={"data": uri})

    assert json.loads(outputs["body"]) == [
        ["hello", None, "world"],
        ["file", "test.yml", "abc"],
        ["other", "a.yml", "abc"],
    ]


def test_a_failing_status_fails_and_keeps_the_answer(bench: Bench, base: str) -> None:
    with pytest.raises(TaskError) as caught:
        bench.run(build(Request, uri=f"{base}/fail"))

    assert "417" in caught.value.message
    assert caught.value.outputs["code"] == 417
    assert caught.value.outputs["headers"]["X-Given-Case"] == ["a"]


@pytest.mark.parametrize(
    "fields", [{"allowFailed": True}, {"options": {"allowFailed": True}}, {"options": {"allowedResponseCodes": [417]}}]
)
def test_a_failing_status_may_be_allowed(bench: Bench, base: str, fields: dict[str, Any]) -> None:
    assert bench.outputs(build(Request, uri=f"{base}/fail", **fields))["code"] == 417


def test_allowed_codes_refuse_all_others(bench: Bench, base: str) -> None:
    with pytest.raises(TaskError, match="200"):
        bench.run(build(Request, uri=base, options={"allowedResponseCodes": [201]}))


def test_the_text_is_decoded_by_its_charset(bench: Bench, base: str) -> None:
    assert bench.outputs(build(Request, uri=f"{base}/latin"))["body"] == "größe"


def test_a_body_can_be_encrypted(bench: Bench, base: str) -> None:
    outputs = bench.outputs(build(Request, uri=f"{base}/latin", encryptBody=True))

    assert outputs["body"] is None
    assert bench.host.encryption is not None
    assert bench.host.encryption.unseal(outputs["encryptedBody"]) == "größe"


@pytest.mark.parametrize("kind", [Request, Download])
def test_an_answer_that_unpacks_to_too_much_is_refused(bench: Bench, base: str, kind: Any) -> None:
    with pytest.raises(TaskError) as caught:
        bench.run(build(kind, uri=f"{base}/zipped", options={"maxContentLength": 1_000_000}))

    assert caught.value.code == "egress.answer.too_large"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"uri": "http://127.0.0.1:9/"}, "http.request.failed"),
        ({"uri": "http://169.254.169.254/latest"}, "egress.address.refused"),
        ({"uri": "file:///etc/passwd"}, "egress.url.invalid"),
        ({"uri": "not an address"}, "egress.url.invalid"),
        ({"uri": "http://0177.0.0.1/"}, "http.url.invalid"),
        ({"uri": "http://127.0.0.1:9/", "headers": "text"}, "http.property.invalid"),
        ({"uri": "http://127.0.0.1:9/", "options": {"proxy": {"type": "SOCKS", "address": "x"}}}, "http.proxy.unknown"),
    ],
)
def test_a_request_that_cannot_be_made_is_explained(bench: Bench, fields: dict[str, Any], code: str) -> None:
    with pytest.raises(TaskError) as caught:
        bench.run(build(Request, **fields))

    assert caught.value.code == code


def test_private_addresses_can_be_forbidden(bench: Bench, base: str) -> None:
    settings = bench.host.settings.model_copy(update={"allow_private_addresses": False})

    with pytest.raises(ExpressionError, match="not allowed"):
        fetch_for_expression(settings, base)


@pytest.mark.parametrize("options", [{"readTimeout": "PT0.2S"}, {"timeout": {"readIdleTimeout": "PT0.2S"}}])
def test_a_silent_server_is_given_up(bench: Bench, options: dict[str, Any]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TaskError) as caught:
        bench.run(build(Request, uri=f"http://127.0.0.1:{silent.getsockname()[1]}/", options=options))

    assert caught.value.code == "http.request.failed"


@pytest.mark.parametrize("kind", [Request, Download])
def test_an_answer_that_trickles_ends_with_the_attempt(bench: Bench, base: str, kind: Any) -> None:
    with pytest.raises(TaskError) as caught:
        bench.run(build(kind, uri=f"{base}/drip"), deadline_s=0.3)

    assert caught.value.code == "task.timeout"


def test_a_cancelled_request_is_given_up(bench: Bench, base: str, cancel_after: Callable[[float], Any]) -> None:
    with pytest.raises(TaskError) as caught:
        bench.run(build(Request, uri=f"{base}/drip"), cancelled=cancel_after(0.2))

    assert caught.value.code == "task.cancelled"


@pytest.mark.parametrize(
    ("path", "fields", "name"),
    [
        ("/files/data.json?x=1", {}, "data.json"),
        ("/named", {}, "re port.csv"),
        ("/named", {"saveAs": "{{ flow.id }}.csv"}, "flow.csv"),
        ("/", {}, "download"),
        ("/..%2f..%2fpasswd", {}, "passwd"),
        ("/a%20b%00c", {}, "a b_c"),
    ],
)
def test_a_download_is_stored_under_its_name(
    bench: Bench, base: str, path: str, fields: dict[str, Any], name: str
) -> None:
    outputs = bench.outputs(build(Download, uri=base + path, **fields))

    assert outputs["uri"].endswith(f"/{name}")
    assert outputs["length"] == len(bench.content(outputs["uri"]))
    assert outputs["code"] == 200
    assert [(metric.name, metric.value) for metric in bench.metrics] == [("response.length", outputs["length"])]


def test_an_empty_download_fails_unless_it_may_be_empty(bench: Bench, base: str) -> None:
    with pytest.raises(TaskError, match="No response from server"):
        bench.run(build(Download, uri=f"{base}/empty"))

    assert bench.outputs(build(Download, uri=f"{base}/empty", failOnEmptyResponse=False))["length"] == 0


def test_a_download_that_breaks_off_fails(bench: Bench, base: str) -> None:
    with pytest.raises(TaskError, match="Invalid size, got 5, expected 10"):
        bench.run(build(Download, uri=f"{base}/short"))

    assert bench.host.storage.list("kestra:///company") == []


def test_a_failed_download_is_not_stored(bench: Bench, base: str) -> None:
    with pytest.raises(TaskError, match="hello"):
        bench.run(build(Download, uri=f"{base}/fail"))

    assert bench.host.storage.list("kestra:///company") == []


def test_an_expression_gets_the_parsed_answer(bench: Bench, base: str) -> None:
    settings = bench.host.settings

    told = fetch_for_expression(settings, base, method="post", body={"a": 1}, query={"q": 1}, headers={"X-A": "b"})
    text = fetch_for_expression(settings, f"{base}/latin")

    assert (told["method"], told["body"], told["path"]) == ("POST", '{"a":1}', "/?q=1")
    assert (told["headers"]["x-a"], told["headers"]["content-type"]) == ("b", "application/json")
    assert text == "größe"
    with pytest.raises(ExpressionError, match="server respond with status 417"):
        fetch_for_expression(settings, f"{base}/fail")
