"""Answers of a forge that are not what its documentation says: null, a list for an object, a field that is missing.

What stands between us and a forge answers too: a proxy with a page for people, a load balancer with half of a text. All
that a method of `ForgeApi` returns goes through here, so that such an answer is an error which says what was odd about
it, and is never taken for a value.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any, Final, get_type_hints

from pydantic import TypeAdapter, ValidationError

if TYPE_CHECKING:
    import httpx

ODD: Final = "forge.answer.odd"
MOST_BYTES: Final = 32 << 20
_WRONG: Final = (LookupError, TypeError, AttributeError, ValueError, OverflowError)
_UNPACKED: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class OddAnswerError(ValueError):
    """An answer that cannot be what the forge means."""


@contextmanager
def reading() -> Iterator[None]:
    """Raise `OddAnswerError` for whatever goes wrong while the parts of an answer are taken out of it."""
    try:
        yield
    except OddAnswerError:
        raise
    except _WRONG as error:
        raise OddAnswerError(_said(error)) from error


def checked(found: Any) -> Any:
    """Return what was read of an answer. Raises `OddAnswerError` when a field of it has another type than it must."""
    if is_dataclass(found) and not isinstance(found, type):
        for name, model in _models(type(found)).items():
            try:
                model.validate_python(getattr(found, name), strict=True)
            except ValidationError as error:
                given = f"{getattr(found, name)!r:.100}"
                raise OddAnswerError(f"its {name} is {given}: {error.errors()[0]['msg']}") from None
    return found


def identity(given: Any) -> str:
    """Return the id that a forge gives something as a text.

    Raises:
        OddAnswerError: when it is none, such as null: two things without an id would be taken for the same.
    """
    if (isinstance(given, int) and not isinstance(given, bool)) or (isinstance(given, str) and given):
        return str(given)
    raise OddAnswerError(f"an id in it is {given!r:.100}")


def received(answer: httpx.Response) -> httpx.Response:
    """Return a streamed response with all of its content. Raises `OddAnswerError` when that is beyond any use."""
    import httpx

    content = bytearray()
    for piece in answer.iter_bytes():
        content += piece
        if len(content) > MOST_BYTES:
            raise OddAnswerError(f"it is larger than {MOST_BYTES >> 20} MiB")
    headers = [(name, text) for name, text in answer.headers.multi_items() if name.lower() not in _UNPACKED]
    return httpx.Response(answer.status_code, headers=headers, content=bytes(content), request=answer.request)


def json_of(answer: httpx.Response) -> Any:
    """Return the JSON of a response, None of an empty one. Raises `OddAnswerError` when it is none."""
    try:
        return answer.json() if answer.content else None
    except (ValueError, RecursionError):
        kind = answer.headers.get("content-type", "no type at all").partition(";")[0][:100]
        raise OddAnswerError(f"it is no JSON that can be read, but {kind}: {answer.text[:100]!r}") from None


def through(method: Callable[..., Any], refuse: Callable[[Any, OddAnswerError], Exception]) -> Callable[..., Any]:
    """Return a method whose reading of an answer, and what it returns, is checked; `refuse` makes the error of it."""

    @functools.wraps(method)
    def checking(self: Any, *given: Any, **named: Any) -> Any:
        try:
            with reading():
                return checked(method(self, *given, **named))
        except OddAnswerError as error:
            raise refuse(self, error) from error

    return checking


@functools.cache
def _models(kind: type[Any]) -> dict[str, TypeAdapter[Any]]:
    return {name: TypeAdapter(hint) for name, hint in get_type_hints(kind).items()}


def _said(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, LookupError) else f"{type(error).__name__}: {error}"
