"""Services of an expression case, kept in memory and filled from the case's `setup`."""

from __future__ import annotations

import base64
import random
import secrets
import uuid
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

from runner.errors import ExpressionError
from runner.executions.models import Execution
from runner.expressions import Scope
from runner.flows.models import Flow
from runner.ids import new_id
from runner.secrets.encryption import Encryption
from runner.storage.access import may_read
from runner.storage.uris import is_uri


class CaseServices:
    """Answers from the maps `env`, `kv`, `storage_files`, `namespace_files` and the list `logs` of a setup."""

    def __init__(self, setup: dict[str, Any], context: dict[str, Any], zone: ZoneInfo) -> None:
        self.setup = setup
        self.context = context
        self.namespace = str((context.get("flow") or {}).get("namespace") or "")
        self.zone = zone

    def now(self) -> datetime:
        return datetime.now(self.zone)

    def secret(self, key: str, namespace: str | None = None, subkey: str | None = None) -> str:  # noqa: ARG002 - one level
        encoded = (self.setup.get("env") or {}).get(f"SECRET_{key.upper()}")
        if encoded is None:
            raise ExpressionError("secret.missing", f"Cannot find secret for key '{key}'.")
        return base64.b64decode(encoded).decode()

    def kv(self, key: str, namespace: str | None = None, *, error_on_missing: bool = True) -> Any:
        where = namespace or self.namespace
        values = (self.setup.get("kv") or {}).get(where) or {}
        if key not in values and error_on_missing:
            raise ExpressionError("kv.missing", f"The key '{key}' does not exist in the namespace '{where}'.")
        return values.get(key)

    def _check_access(self, uri: str) -> None:
        """Apply the product's rule to the execution that the context describes."""
        flow, run, cause = (self.context.get(name) or {} for name in ("flow", "execution", "trigger"))
        execution = SimpleNamespace(
            id=run.get("id"),
            original_id=run.get("originalId"),
            parent_id=None,
            parent_execution_id=None,
            trigger=SimpleNamespace(variables=cause),
        )
        own = SimpleNamespace(id=flow.get("id") or "", namespace=self.namespace)
        if not may_read(uri, cast("Execution", execution), cast("Flow", own)):
            message = f"Unable to read the file '{uri}' as it didn't belong to the current execution"
            raise ExpressionError("storage.file.refused", message)

    def read_file(self, uri_or_path: str) -> bytes:
        if is_uri(uri_or_path):
            self._check_access(uri_or_path)
        path = uri_or_path.removeprefix("kestra://")
        content = (self.setup.get("storage_files") or {}).get(path)
        if content is None:
            content = self._namespace_file(uri_or_path)
        if content is None:
            raise ExpressionError("file.missing", f"no file {uri_or_path}")
        return str(content).encode()

    def _namespace_file(self, path: str) -> Any:
        files = self.setup.get("namespace_files") or {}
        own = files.get(self.namespace, files)
        own = own if isinstance(own, dict) else files
        prefix = f"kestra:///{self.namespace.replace('.', '/')}/_files/"
        return {name.lstrip("/"): text for name, text in own.items()}.get(path.removeprefix(prefix).lstrip("/"))

    def file_size(self, uri: str) -> int:
        return len(self.read_file(uri))

    def file_exists(self, uri: str) -> bool:
        try:
            self.read_file(uri)
        except ExpressionError:
            return False
        return True

    def file_uri(self, path: str) -> str:
        return f"kestra:///{self.namespace.replace('.', '/')}/_files/{path.lstrip('/')}"

    def random_int(self, lower: int, upper: int) -> int:
        return random.randrange(lower, upper)

    def random_bytes(self, count: int) -> bytes:
        return secrets.token_bytes(count)

    def random_port(self) -> int:
        return random.randrange(20000, 30000)

    def new_id(self) -> str:
        return new_id()

    def uuid(self) -> str:
        return str(uuid.uuid4())

    def error_logs(self) -> list[dict[str, Any]]:
        return [entry for entry in self.setup.get("logs") or [] if entry.get("level") == "ERROR"]

    def tasks_with_state(self, state: str) -> list[dict[str, Any]]:
        return [run for run in self.setup.get("task_runs") or [] if run.get("state") == state]

    def http(self, uri: str, **options: Any) -> Any:
        raise ExpressionError("http.refused", f"no HTTP in this test: {options.get('method')} {uri}")

    def environment(self, name: str, default: str | None = None) -> str | None:
        return (self.setup.get("env") or {}).get(name, default)


def _encrypted(value: Any, encryption: Encryption) -> Any:
    """Return `value` with each `{"$encrypted": text}` encrypted as the store would hold it."""
    if isinstance(value, dict):
        if set(value) == {"$encrypted"}:
            return encryption.encrypt(value["$encrypted"])
        return {name: _encrypted(item, encryption) for name, item in value.items()}
    return [_encrypted(item, encryption) for item in value] if isinstance(value, list) else value


def scope_of(case: dict[str, Any], zone: ZoneInfo) -> Scope:
    """Return the scope that a case describes."""
    context = case.get("context") or {}
    key = (case.get("setup") or {}).get("encryption_secret_key")
    if key:
        encryption = Encryption(key.encode())
        context = encryption.unseal(_encrypted(context, encryption))
    recursive = bool((case.get("config") or {}).get("recursive_rendering"))
    return Scope(context, CaseServices(case.get("setup") or {}, context, zone), recursive=recursive)
