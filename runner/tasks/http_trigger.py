"""Starts an execution when an address answers as it should."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from runner.context import host_of
from runner.expressions import is_truthy
from runner.flows.models import Template
from runner.plugin import Context
from runner.tasks.http import HttpTask, Request
from runner.tasks.http_options import HttpOptions, SslOptions
from runner.triggers.polling import Look, PollingTrigger

_SHARED = frozenset(HttpTask.model_fields) - frozenset(PollingTrigger.model_fields)


class Trigger(PollingTrigger):
    """Makes a request every `interval`, and starts an execution when `responseCondition` is truthy.

    The condition sees `response.statusCode`, `response.body` and `response.headers`. `trigger` has the outputs of a
    `core.http.Request` task: `uri`, `code`, `headers` and `body` or `encryptedBody`.
    """

    uri: Template
    method: Template = "GET"
    body: Any = None
    form_data: Any = None
    content_type: Any = None
    headers: Any = Field(default_factory=dict)
    params: Any = Field(default_factory=dict)
    options: HttpOptions = HttpOptions()
    ssl_options: SslOptions | None = None
    allow_failed: bool = True
    encrypt_body: bool = False
    response_condition: Template = "{{ response.statusCode < 400 }}"

    def look(self, ctx: Context, memory: Mapping[str, Any]) -> Look:  # noqa: ARG002 - each answer is judged by itself
        """Make the request and judge the answer."""
        fields = {name: getattr(self, name) for name in _SHARED if name in Trigger.model_fields}
        own = {"id": self.id, "type": self.type, "allow_failed": True, "encrypt_body": self.encrypt_body}
        outputs = Request.model_validate({**fields, **own}).run(ctx)
        response = {"statusCode": outputs["code"], "body": self._body(ctx, outputs), "headers": outputs["headers"]}
        holds = is_truthy(ctx.with_variables(response=response).render(self.response_condition))
        return Look(outputs if holds else None)

    def _body(self, ctx: Context, outputs: Mapping[str, Any]) -> Any:
        encryption = host_of(ctx).encryption
        return encryption.unseal(outputs["encryptedBody"]) if encryption and self.encrypt_body else outputs["body"]
