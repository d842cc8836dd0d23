"""Functions that give something new at each call; the randomness is the services'."""

from __future__ import annotations

from typing import Final

from runner.errors import ExpressionError
from runner.expressions.frame import Frame
from runner.expressions.registry import function

_ALPHABET: Final = "_-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KSUID_EPOCH: Final = 1_400_000_000  # seconds; the start of the KSUID calendar
_KSUID_LENGTH: Final = 27
_MAX_LENGTH: Final = 10_000


@function("randomInt")
def random_int(frame: Frame, lower: int, upper: int) -> int:
    """Return a random integer from `lower` up to, and without, `upper`; `lower` when both are the same.

    Example:
        {{ randomInt(5, 6) }} -> 5
    """
    if upper < lower:
        raise ExpressionError("expression.argument", f"In 'randomInt' upper ({upper}) is less than lower ({lower})")
    return lower if upper == lower else frame.services.random_int(lower, upper)


@function("randomPort")
def random_port(frame: Frame) -> int:
    """Return a TCP port that is free on this host at this moment.

    Example:
        {{ randomPort() > 1023 }} -> true
    """
    return frame.services.random_port()


@function()
def uuid(frame: Frame) -> str:
    """Return a random UUID.

    Example:
        {{ uuid() | length }} -> 36
    """
    return frame.services.uuid()


@function("id")
def new_id(frame: Frame) -> str:
    """Return a fresh identifier, as executions have.

    Example:
        {{ id() | regexMatch('^[0-9A-Za-z]+$') }} -> true
    """
    return frame.services.new_id()


@function()
def ksuid(frame: Frame) -> str:
    """Return a KSUID: 27 characters that sort by time.

    Example:
        {{ ksuid() | length }} -> 27
    """
    seconds = int(frame.services.now().timestamp()) - _KSUID_EPOCH
    number = int.from_bytes(seconds.to_bytes(4, "big") + frame.services.random_bytes(16))
    characters = []
    for _ in range(_KSUID_LENGTH):
        number, digit = divmod(number, len(_BASE62))
        characters.append(_BASE62[digit])
    return "".join(reversed(characters))


@function("nanoId")
def nano_id(frame: Frame, length: int = 21, alphabet: str | None = None) -> str:
    """Return `length` random characters of `alphabet` (letters, digits, `_` and `-` by default).

    Example:
        {{ nanoId(8) | length }} {{ nanoId(3, 'x') }} -> 8 xxx
    """
    letters = alphabet or _ALPHABET
    if not 0 < length <= _MAX_LENGTH:
        raise ExpressionError("expression.argument", f"In 'nanoId' length has to be 1 to {_MAX_LENGTH}, not {length!r}")
    if len(letters) > len(_ALPHABET) * 4:
        raise ExpressionError("expression.argument", "In 'nanoId' alphabet has to be at most 256 characters")
    # Eight bytes a character make the bias of the remainder smaller than 2**-56.
    noise = frame.services.random_bytes(8 * length)
    return "".join(
        letters[int.from_bytes(noise[start : start + 8]) % len(letters)] for start in range(0, len(noise), 8)
    )
