"""Where secrets come from: a chain of backends, asked in order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

from runner.errors import ExpressionError, MainstemError

if TYPE_CHECKING:
    from runner.secrets.stored import StoredSecrets

GROUP = "mainstem.secrets"


class SecretBackend(Protocol):
    """A place that knows secrets. Keys are asked in upper case; a backend compares without regard to case."""

    def get(self, namespace: str, key: str) -> str | None:
        """Return the secret as the flow namespace `namespace` sees it, None when there is none."""

    def keys(self, namespace: str) -> list[str]:
        """Return the keys that `namespace` sees, sorted; never values."""

    def values(self) -> Iterator[str]:
        """Yield every value that is known without asking anybody, so that it can be masked from the start."""


class Secrets:
    """All secrets of a process. `watch` hears every value that leaves here, and at the start every value known.

    Another process may read a secret first that was set after the start; `renew` tells of it here as well. `own` are
    those that can be set here (None: nobody keeps any); they are asked first, as whoever sets one expects.
    """

    def __init__(
        self,
        backends: Sequence[SecretBackend],
        watch: Callable[[str], Any] = lambda _value: None,
        own: StoredSecrets | None = None,
    ) -> None:
        self.own = own
        self._given = tuple(backends)
        self._backends: tuple[SecretBackend, ...] = ((own,) if own is not None else ()) + self._given
        self._watch = watch
        self._told: set[str] = set()
        self.renew()

    def renew(self) -> None:
        """Tell `watch` of every value that has become known since it was last told.

        Raises:
            InvalidError: the file of secrets has become one that is not acceptable.
        """
        for backend in self._backends:
            for value in backend.values():
                self._reveal(value)

    def get(self, namespace: str, key: str, subkey: str | None = None, *, apart: bool = False) -> str:
        """Return a secret, or the field `subkey` of a secret that is a JSON object.

        With `apart` only those backends are asked that keep the secrets of namespaces apart: they say so by an
        attribute `is_namespaced` that is true.

        Raises:
            ExpressionError: `secret.key.missing` (the sentence is Kestra's), `secret.subkey.missing`.
        """
        for backend in self._backends:
            if apart and not getattr(backend, "is_namespaced", False):
                continue
            value = backend.get(namespace, key.upper())
            if value is not None:
                self._reveal(value)
                return value if subkey is None else self._field(key, value, subkey)
        raise ExpressionError(
            "secret.key.missing",
            f"Cannot find secret for key '{key}'.",
            hint=f"mainstem secret set {namespace} {key.upper()}; or SECRET_{key.upper()} (base64), or secrets.yaml",
        )

    def keys(self, namespace: str) -> list[str]:
        """Return the keys that `namespace` sees, sorted, each once."""
        return sorted({key for backend in self._backends for key in backend.keys(namespace)})

    def given(self, namespace: str) -> list[str]:
        """Return the keys that `namespace` sees and that cannot be set here, sorted, each once."""
        return sorted({key for backend in self._given for key in backend.keys(namespace)})

    def _field(self, key: str, value: str, subkey: str) -> str:
        try:
            field = json.loads(value)[subkey]
        except (ValueError, KeyError, TypeError, IndexError):
            message = f"Cannot find secret sub-key '{subkey}' in secret '{key}'."
            raise ExpressionError("secret.subkey.missing", message) from None
        text = field if isinstance(field, str) else json.dumps(field)
        self._watch(text)
        return text

    def _reveal(self, value: str) -> None:
        if value in self._told:
            return
        self._watch(value)
        # `json(secret('x')).field` takes a field out where nobody sees it, so the fields are masked as well.
        for text in _leaves(value):
            self._watch(text)
        self._told.add(value)


def plugin_backends() -> list[SecretBackend]:
    """Return the backends that installed packages register under `mainstem.secrets`, ordered by name.

    Raises:
        MainstemError: `secret.backend.broken` when one cannot be loaded: going on without it would change secrets.
    """
    found = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            found.append(entry.load()())
        except Exception as error:  # so may the code of others
            # Foreign code may raise anything; the name of the entry point is what helps.
            message = f"the secret backend {entry.name!r} cannot be loaded: {error}"
            raise MainstemError("secret.backend.broken", message) from error
    return found


def _leaves(value: str) -> Iterator[str]:
    if not value.lstrip().startswith("{"):
        return
    try:
        fields = json.loads(value)
    except (ValueError, RecursionError):
        return
    yield from (text for text in fields.values() if isinstance(text, str))
