"""What the expressions of a person who only looks may ask of the outside: no values of secrets, nothing sent anywhere.

An expression of a flow was committed by somebody who may write flows. One that comes with a request may take a secret
apart so that no mask knows its pieces, and send it wherever it likes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runner.errors import ExpressionError
from runner.flows.inputs import SECRET_MASK
from runner.services import ExecutionServices
from runner.storage.access import may_read


@dataclass(frozen=True)
class OnlookerServices(ExecutionServices):
    """The services of an execution for somebody who `sees` some namespaces and may read this execution."""

    sees: Callable[[str], bool]

    def secret(self, key: str, namespace: str | None = None, subkey: str | None = None) -> str:
        """Return a mask where the flow would get a secret. Raises as for the flow."""
        super().secret(key, namespace, subkey)
        return SECRET_MASK

    def kv(self, key: str, namespace: str | None = None, *, error_on_missing: bool = True) -> Any:
        """Return a value as the flow sees it. Raises `ExpressionError` also for a namespace that is hidden."""
        if namespace is not None and not self.sees(namespace):
            raise ExpressionError("kv.key.missing", f"The key '{key}' does not exist in the namespace '{namespace}'.")
        return super().kv(key, namespace, error_on_missing=error_on_missing)

    def http(self, uri: str, **options: Any) -> Any:  # noqa: ARG002 - the port's signature
        """Raise `ExpressionError` `expression.function.unavailable`."""
        raise ExpressionError("expression.function.unavailable", "http() sends nothing from here: run a flow that does")

    def _may_read(self, uri: str) -> bool:
        return may_read(uri, self.execution, self.flow, lookup=self.host.execution_of, sees=self.sees)
