"""Tasks that talk HTTP."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from email.message import Message
from typing import IO, Any

import httpx
from pydantic import Field

from runner.addresses import EgressError
from runner.context import host_of
from runner.egress import Egress, bounded
from runner.errors import ExpressionError, MainstemError, TaskError
from runner.expressions import to_json, to_text
from runner.flows.models import Template
from runner.ids import new_id
from runner.plugin import Context, Outputs, Task
from runner.settings import Settings
from runner.storage.uris import is_uri
from runner.tasks.http_options import MAXIMUM_CONTENT_BYTES, HttpOptions, SslOptions

_SHOWN_CHARS = 1000  # of the answer, in the message of a failure
_UNSAFE = re.compile(r"[^\w.\-+@ ]+")


class HttpTask(Task):
    """What the HTTP tasks have in common: the request."""

    uri: Template
    method: Template = "GET"
    body: Any = None
    form_data: Any = None
    content_type: Any = None
    headers: Any = Field(default_factory=dict)
    params: Any = Field(default_factory=dict)
    options: HttpOptions = HttpOptions()
    ssl_options: SslOptions | None = None
    allow_failed: bool = False

    @contextlib.contextmanager
    def _answer(self, ctx: Context) -> Iterator[httpx.Response]:
        egress = self.options.egress(ctx, host_of(ctx).settings, self.ssl_options)
        with egress.client(self.options.credentials(ctx)) as client:
            values = self._request(ctx)
            asked = f"{values['method']} {values['url']}"
            try:
                response = client.send(client.build_request(**values), stream=True)
            except EgressError as error:
                raise TaskError(error.code, f"{asked}: {error.message}", hint=error.hint) from None
            except httpx.InvalidURL as error:
                raise TaskError("http.url.invalid", f"{asked}: {error}") from None
            except httpx.HTTPError as error:
                raise TaskError("http.request.failed", f"{asked}: {_reason(error)}") from None
            with contextlib.closing(response):
                ctx.log("DEBUG", f"{asked} answered {response.status_code}")
                yield response

    def _request(self, ctx: Context) -> dict[str, Any]:
        headers = {str(name): to_text(value) for name, value in _map(ctx, self.headers, "headers").items()}
        values: dict[str, Any] = {
            "method": ctx.render(self.method).strip().upper(),
            "url": _url(ctx.render(self.uri), _map(ctx, self.params, "params")),
            "headers": headers,
        }
        kind = ctx.render(self.content_type)
        if self.form_data is not None:
            return values | _form(ctx, _map(ctx, self.form_data, "formData"), kind)
        if self.body is not None:
            text = ctx.render(self.body) if isinstance(self.body, str) else to_json(ctx.render_deep(self.body))
            values["content"] = text.encode()
            kind = kind or ("application/json" if _is_json(text) else "text/plain; charset=utf-8")
        if kind and not any(name.lower() == "content-type" for name in headers):
            headers["Content-Type"] = kind
        return values

    def _check(self, ctx: Context, response: httpx.Response, outputs: Mapping[str, Any], shown: str) -> None:
        if self.options.accepts(ctx, response.status_code, allow_failed=self.allow_failed):
            return
        raise TaskError(
            "http.status.failed",
            f"the server answered {response.status_code} {response.reason_phrase}: {shown[:_SHOWN_CHARS]}".rstrip(": "),
            hint="allowFailed, or options.allowedResponseCodes, lets the task succeed",
            outputs=outputs,
        )


class Request(HttpTask):
    """Make a request and return the answer.

    Outputs: `uri`, `code`, `headers` (a list of values for each name) and `body`, a text. Where that is JSON, its parts
    can be named: `outputs.call.body.id`, as well as `fromJson(outputs.call.body).id` or the filter `jq`. With
    `encryptBody` the text is in `encryptedBody` instead, sealed. The task fails on a status of 400 or more unless
    `allowFailed`.
    """

    encrypt_body: bool = False

    def run(self, ctx: Context) -> Outputs:
        """Return the answer."""
        with self._answer(ctx) as response:
            raw = b"".join(_taken(ctx, response, self.options.maximum_bytes(ctx)))
            text = raw.decode(response.charset_encoding or ctx.render(self.options.default_charset), errors="replace")
            outputs: dict[str, Any] = _head(response) | {"body": text, "encryptedBody": None}
            if self.encrypt_body:
                encryption = host_of(ctx).encryption
                if encryption is None:
                    raise TaskError("encryption.key.missing", "encryptBody needs an encryption key, and there is none")
                outputs |= {"body": None, "encryptedBody": encryption.seal(text)}
            self._check(ctx, response, outputs, "" if self.encrypt_body else text)
            return outputs


class Download(HttpTask):
    """Make a request and keep the answer as a file.

    Outputs: `uri` of the file, `code`, `length` in bytes, `headers`. The file is called `saveAs`, or as the answer's
    `Content-Disposition` or the address say. An empty answer fails the task unless `failOnEmptyResponse` is false.
    """

    fail_on_empty_response: bool = True
    save_as: Any = None

    def run(self, ctx: Context) -> Outputs:
        """Return where the file is."""
        with self._answer(ctx) as response, tempfile.TemporaryFile(dir=ctx.work_dir()) as file:
            length = self._receive(ctx, response, file)
            ctx.metric("counter", "response.length", length)
            file.seek(0)
            outputs = _head(response) | {"length": length}
            self._check(ctx, response, outputs, file.read(_SHOWN_CHARS).decode(errors="replace"))
            if length == 0 and self.fail_on_empty_response:
                hint = "failOnEmptyResponse: false accepts an empty answer"
                raise TaskError("http.answer.empty", "No response from server", hint=hint, outputs=outputs)
            file.seek(0)
            uri = ctx.uri(f"{new_id()[-8:]}/{self._name(ctx, response)}")
            ctx.storage.put(uri, file)
            return outputs | {"uri": uri}

    def _receive(self, ctx: Context, response: httpx.Response, file: IO[bytes]) -> int:
        try:
            for chunk in _taken(ctx, response, self.options.maximum_bytes(ctx, None)):
                file.write(chunk)
        except httpx.RemoteProtocolError as error:
            expected = response.headers.get("content-length")
            if expected is None:
                raise TaskError("http.request.failed", _reason(error)) from None
            message = f"Invalid size, got {response.num_bytes_downloaded}, expected {expected}"
            raise TaskError("http.answer.incomplete", message) from None
        return file.tell()

    def _name(self, ctx: Context, response: httpx.Response) -> str:
        header = Message()
        header["Content-Disposition"] = response.headers.get("content-disposition", "")
        choices = [
            ctx.render(self.save_as),
            header.get_filename() or "",
            urllib.parse.unquote(response.url.path).rstrip("/").rpartition("/")[2],
        ]
        names = [_UNSAFE.sub("_", re.split(r"[/\\]", choice)[-1]).strip(" .")[-150:] for choice in choices]
        return next((name for name in names if name), "download")


def fetch_for_expression(settings: Settings, uri: str, **options: Any) -> Any:
    """Return the parsed body for the expression function `http()`: JSON by its content type, else text.

    Raises:
        ExpressionError: `expression.http.failed`.
    """
    egress = Egress(allow_private=settings.allow_private_addresses, connect_s=5.0, read_s=10.0)
    body = options.get("body")
    content_type = options.get("content_type") or "application/json"
    headers = {"Content-Type": content_type} if body is not None else {}
    if options.get("accept"):
        headers["Accept"] = options["accept"]
    headers |= {str(name): to_text(value) for name, value in (options.get("headers") or {}).items()}
    content = None if body is None else (body if isinstance(body, str) else to_json(body)).encode()
    try:
        with (
            egress.client() as client,
            client.stream(
                (options.get("method") or "GET").upper(),
                _url(uri, options.get("query") or {}),
                headers=headers,
                content=content,
            ) as response,
        ):
            raw = b"".join(bounded(response, MAXIMUM_CONTENT_BYTES))
    except (httpx.HTTPError, httpx.InvalidURL, MainstemError) as error:
        raise ExpressionError("expression.http.failed", f"Failed to execute HTTP Request: {_reason(error)}") from None
    if response.status_code >= httpx.codes.BAD_REQUEST:
        message = f"Failed to execute HTTP Request, server respond with status {response.status_code}"
        raise ExpressionError("expression.http.failed", message)
    text = raw.decode(response.charset_encoding or "utf-8", errors="replace")
    return json.loads(text) if _kind(response).endswith("json") and _is_json(text) else text


def _taken(ctx: Context, response: httpx.Response, maximum_bytes: int | None) -> Iterator[bytes]:
    started = time.monotonic()
    try:
        for chunk in bounded(response, maximum_bytes):
            if ctx.cancelled.is_set():
                raise TaskError("task.cancelled", "cancelled")
            # The read timeout bounds one silence; an answer that trickles must still end with the attempt.
            if ctx.deadline_s is not None and time.monotonic() - started > ctx.deadline_s:
                raise TaskError("task.timeout", f"the answer did not end within {ctx.deadline_s:g} s")
            yield chunk
    except httpx.RemoteProtocolError:
        raise
    except httpx.HTTPError as error:
        raise TaskError("http.request.failed", _reason(error)) from None
    except EgressError as error:
        raise TaskError(error.code, error.message, hint=error.hint) from None


def _head(response: httpx.Response) -> dict[str, Any]:
    headers: dict[str, list[str]] = {}
    for name, value in response.headers.raw:
        headers.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    return {"uri": str(response.url), "code": response.status_code, "headers": headers}


def _form(ctx: Context, fields: Mapping[str, Any], kind: str) -> dict[str, Any]:
    if not kind.lower().startswith("multipart/"):
        return {"data": {name: to_text(value) for name, value in fields.items()}}
    parts: list[tuple[str, Any]] = []
    for name, value in fields.items():
        if isinstance(value, Mapping):
            parts.append((name, (to_text(value.get("name") or name), _content(ctx, to_text(value.get("content"))))))
        elif is_uri(value):
            parts.append((name, (value.rpartition("/")[2], _content(ctx, value))))
        else:
            parts.append((name, (None, to_text(value).encode())))
    return {"files": parts}


def _content(ctx: Context, text: str) -> bytes:
    return ctx.read_uri(text) if is_uri(text) else text.encode()


def _map(ctx: Context, value: Any, name: str) -> Mapping[str, Any]:
    rendered = ctx.render_typed(value)
    if isinstance(rendered, str):
        rendered = json.loads(rendered) if _is_json(rendered) else None
    if not isinstance(rendered, Mapping):
        raise TaskError("http.property.invalid", f"`{name}` must be a map")
    return {str(key): item for key, item in rendered.items() if item is not None}


def _url(text: str, params: Mapping[str, Any]) -> str:
    url = text.strip().replace(" ", "%20")
    pairs = [(key, to_text(item)) for key, value in params.items() for item in _items(value)]
    if not pairs:
        return url
    address, mark, fragment = url.partition("#")
    return address + ("&" if "?" in address else "?") + urllib.parse.urlencode(pairs) + mark + fragment


def _items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _kind(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
