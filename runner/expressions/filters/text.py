"""Filters on text."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote_plus, unquote_plus

from runner.errors import ExpressionError
from runner.expressions import regex
from runner.expressions.frame import Frame
from runner.expressions.limits import Limits, too_much
from runner.expressions.registry import filter_
from runner.expressions.values import is_list, kind_of, to_text

_LINE: Final = re.compile(r"\r\n|\r|\n")
_QUOTES: Final = {"single": ("'", "\\'"), "double": ('"', '\\"'), "shell": ("'", "'\\''")}
_NOT_WORD: Final = re.compile(r"[^\w-]", re.ASCII)


@filter_()
def upper(value: Any) -> str:
    """Return the text in upper case.

    Example:
        {{ 'abc' | upper }} -> ABC
    """
    return to_text(value).upper()


@filter_()
def lower(value: Any) -> str:
    """Return the text in lower case.

    Example:
        {{ 'ABC' | lower }} -> abc
    """
    return to_text(value).lower()


@filter_()
def title(value: Any) -> str:
    """Return the text with the first letter of each word raised; other letters stay.

    Example:
        {{ 'the red fOX' | title }} -> The Red FOX
    """
    return re.sub(r"(^|\s)(\S)", lambda match: match[1] + match[2].upper(), to_text(value))


@filter_()
def capitalize(value: Any) -> str:
    """Return the text with its first letter raised; other letters stay.

    Example:
        {{ 'article title' | capitalize }} -> Article title
    """
    text = to_text(value)
    start = len(text) - len(text.lstrip())
    return text[:start] + text[start : start + 1].upper() + text[start + 1 :]


@filter_()
def trim(value: Any) -> str:
    """Return the text without white space at both ends.

    Example:
        [{{ '  a b ' | trim }}] -> [a b]
    """
    return to_text(value).strip()


@filter_()
def abbreviate(value: Any, length: int) -> str:
    """Return the text cut to `length` characters, of which the last three are dots, if it is that long or longer.

    Example:
        {{ 'this is a long sentence' | abbreviate(7) }} -> this...
    """
    text = to_text(value)
    if length < len("..."):
        raise ExpressionError("expression.argument", "The 'abbreviate' filter needs a length of at least 3")
    return text if len(text) < length else text[: length - 3] + "..."


@filter_()
def replace(frame: Frame, value: Any, replace_pairs: Any, regexp: Any = False) -> Any:  # noqa: FBT002 - Pebble's signature
    r"""Return the text with each key of the map replaced by its value, deep in lists and maps.

    With `regexp` the keys are patterns (RE2) and `$1` in a value is the first group.

    Example:
        {{ 'aa1bb2' | replace({'(\d)': '-$1-'}, regexp=true) }} -> aa-1-bb-2-
    """
    if not isinstance(replace_pairs, Mapping):
        raise ExpressionError(
            "expression.argument", f"The 'replace' filter expects a map, not {kind_of(replace_pairs)}"
        )
    pairs = [(to_text(old), to_text(new)) for old, new in replace_pairs.items()]

    def change(text: str) -> str:
        for old, new in pairs:
            frame.tick()
            text = regex.replace_all(frame, text, old, new) if regexp else _replaced(text, old, new, frame.limits)
        return text

    return _deep(value, change, frame)


def _replaced(text: str, old: str, new: str, limits: Limits) -> str:
    if len(new) > len(old) and len(text) + text.count(old) * (len(new) - len(old)) > limits.text:
        raise too_much(f"a text has more than {limits.text} characters")
    return text.replace(old, new)


def _deep(value: Any, change: Callable[[str], str], frame: Frame) -> Any:
    frame.tick()
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _deep(item, change, frame) for key, item in value.items()}
    if is_list(value):
        return [_deep(item, change, frame) for item in value]
    return value


@filter_("escapeChar")
def escape_char(frame: Frame, value: Any, type: str) -> Any:  # noqa: A002 - the name used in templates
    r"""Return the text with quotes escaped for `single`, `double` or `shell` quoting, deep in lists and maps.

    Example:
        {{ "L'eau" | escapeChar('shell') }} -> L'\''eau
    """
    if type not in _QUOTES:
        raise ExpressionError(
            "expression.argument", f"The 'escapeChar' filter has no type {type!r}", hint="use single, double or shell"
        )
    quote, escaped = _QUOTES[type]
    return _deep(value, lambda text: text.replace(quote, escaped), frame)


@filter_()
def slugify(value: Any) -> str:
    """Return the text as part of a URL: accents dropped, white space as hyphens, lower case.

    Example:
        {{ 'Hello  Wörld!' | slugify }} -> hello-world
    """
    text = re.sub(r"\s", "-", to_text(value))
    text = _NOT_WORD.sub("", unicodedata.normalize("NFD", text))
    text = re.sub(r"-{2,}", "-", text.replace("_", "-"))
    return text.removeprefix("-").removesuffix("-").lower()


@filter_("substringBefore")
def substring_before(value: Any, separator: str) -> str:
    """Return what stands before the first `separator`, everything if there is none.

    Example:
        {{ 'a.b.c' | substringBefore('.') }} -> a
    """
    return to_text(value).split(separator, 1)[0] if separator else ""


@filter_("substringBeforeLast")
def substring_before_last(value: Any, separator: str) -> str:
    """Return what stands before the last `separator`, everything if there is none.

    Example:
        {{ 'a.b.c' | substringBeforeLast('.') }} -> a.b
    """
    return to_text(value).rsplit(separator, 1)[0] if separator else to_text(value)


@filter_("substringAfter")
def substring_after(value: Any, separator: str) -> str:
    """Return what stands after the first `separator`, nothing if there is none.

    Example:
        {{ 'a.b.c' | substringAfter('.') }} -> b.c
    """
    return to_text(value).partition(separator)[2] if separator else to_text(value)


@filter_("substringAfterLast")
def substring_after_last(value: Any, separator: str) -> str:
    """Return what stands after the last `separator`, nothing if there is none.

    Example:
        {{ 'a.b.c' | substringAfterLast('.') }} -> c
    """
    _, found, rest = to_text(value).rpartition(separator) if separator else ("", "", "")
    return rest if found else ""


@filter_("startsWith")
def starts_with(value: Any, value_: str) -> bool:
    """Return whether the text starts with `value`.

    Example:
        {{ 'Hello' | startsWith('He') }} -> true
    """
    return to_text(value).startswith(value_)


@filter_("endsWith")
def ends_with(value: Any, value_: str) -> bool:
    """Return whether the text ends with `value`.

    Example:
        {{ 'Hello' | endsWith('lo') }} -> true
    """
    return to_text(value).endswith(value_)


@filter_()
def split(frame: Frame, value: Any, delimiter: str, limit: int | None = None) -> list[str]:
    r"""Return the parts between matches of the pattern `delimiter`; trailing empty parts are dropped.

    Example:
        {{ 'a,b,,' | split(',') }} {{ 'a1b22c' | split('\d+', 2) }} -> ["a","b"] ["a","b22c"]
    """
    return regex.split(frame, to_text(value), delimiter, limit)


@filter_()
def indent(frame: Frame, value: Any, amount: int, prefix: str = " ") -> str:
    """Return the text with `amount` times `prefix` before every line but the first.

    Example:
        {{ yaml | default('a: 1') | indent(2) }} -> a: 1
    """
    text = to_text(value)
    margin = _margin(text, amount, prefix, frame.limits)
    return _LINE.sub(lambda match: match[0] + margin, text)


@filter_()
def nindent(frame: Frame, value: Any, amount: int, prefix: str = " ") -> str:
    """Return a line break, then the text with `amount` times `prefix` before every line.

    Example:
        [{{ 'a' | nindent(2) }}] -> [
          a]
    """
    text = to_text(value)
    margin = _margin(text, amount, prefix, frame.limits)
    first = _LINE.search(text)
    return (first[0] if first else "\n") + margin + _LINE.sub(lambda match: match[0] + margin, text)


def _margin(text: str, amount: int, unit: str, limits: Limits) -> str:
    if amount < 0:
        raise ExpressionError("expression.argument", f"The amount of an indentation must be 0 or more, not {amount!r}")
    if amount > limits.text:
        raise too_much(f"a text has more than {limits.text} characters")
    lines = len(_LINE.findall(text)) + 1
    if len(text) + lines * amount * len(unit) > limits.text:
        raise too_much(f"a text has more than {limits.text} characters")
    return unit * amount


@filter_()
def nl2br(value: Any) -> str:
    """Return the text with `<br />` in place of each line break.

    Example:
        {{ 'one line' | nl2br }} -> one line
    """
    return _LINE.sub("<br />", to_text(value))


@filter_()
def string(value: Any) -> str:
    """Return the value as text.

    Example:
        {{ (1 | string) + 1 }} -> 11
    """
    return to_text(value)


@filter_("condenseString")
def condense_string(value: Any) -> str:
    """Return the text with each run of white space as one blank, and none at both ends.

    Example:
        {{ ' a   b ' | condenseString }} -> a b
    """
    return " ".join(to_text(value).split())


@filter_()
def sh(value: Any) -> str:
    r"""Return the text quoted as one word of a POSIX shell.

    Example:
        {{ "it's" | sh }} -> 'it'\''s'
    """
    return "'" + to_text(value).replace("'", "'\\''") + "'"


@filter_("regexMatch")
def regex_match(value: Any, pattern: str) -> bool:
    r"""Return whether the pattern (RE2) occurs in the text.

    Example:
        {{ 'v1.2' | regexMatch('^v\d') }} -> true
    """
    return regex.compile_pattern(pattern).search(to_text(value)) is not None


@filter_("regexReplace")
def regex_replace(frame: Frame, value: Any, pattern: str, replacement: str) -> str:
    r"""Return the text with each match of the pattern (RE2) replaced; `$1` is the first group.

    Example:
        {{ 'a-b' | regexReplace('(\w)-(\w)', '$2-$1') }} -> b-a
    """
    return regex.replace_all(frame, to_text(value), pattern, replacement)


@filter_("regexExtract")
def regex_extract(value: Any, pattern: str, group: int | None = None) -> str | None:
    r"""Return the first match of the pattern (RE2), or null: `group`, the first group if there is one, or everything.

    Example:
        {{ 'build 42 ok' | regexExtract('\d+') }} -> 42
    """
    match = regex.compile_pattern(pattern).search(to_text(value))
    if match is None:
        return None
    chosen = group if group is not None else min(1, len(match.groups()))
    if not 0 <= chosen <= len(match.groups()):
        raise ExpressionError("expression.regex", f"the pattern has no group {chosen}")
    found: str | None = match.group(chosen)
    return found


def _digest(value: Any, algorithm: str) -> str:
    return hashlib.new(algorithm, to_text(value).encode(), usedforsecurity=False).hexdigest()


@filter_()
def md5(value: Any) -> str:
    """Return the MD5 of the UTF-8 text in hexadecimal.

    Example:
        {{ 'hello' | md5 }} -> 5d41402abc4b2a76b9719d911017c592
    """
    return _digest(value, "md5")


@filter_()
def sha1(value: Any) -> str:
    """Return the SHA-1 of the UTF-8 text in hexadecimal.

    Example:
        {{ 'hello' | sha1 }} -> aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d
    """
    return _digest(value, "sha1")


@filter_()
def sha256(value: Any) -> str:
    """Return the SHA-256 of the UTF-8 text in hexadecimal.

    Example:
        {{ 'hello' | sha256 | slice(0, 8) }} -> 2cf24dba
    """
    return _digest(value, "sha256")


@filter_()
def sha512(value: Any) -> str:
    """Return the SHA-512 of the UTF-8 text in hexadecimal.

    Example:
        {{ 'hello' | sha512 | slice(0, 8) }} -> 9b71d224
    """
    return _digest(value, "sha512")


@filter_()
def urlencode(value: Any) -> str:
    """Return the text encoded as a form does: a blank becomes `+`.

    Example:
        {{ 'a b&c' | urlencode }} -> a+b%26c
    """
    return quote_plus(to_text(value), safe="*-._").replace("~", "%7E")


@filter_()
def urldecode(value: Any) -> str:
    """Return the text that `urlencode` encoded.

    Example:
        {{ 'a+b%26c' | urldecode }} -> a b&c
    """
    return unquote_plus(to_text(value))


@filter_()
def base64encode(value: Any) -> str:
    """Return the UTF-8 text in base 64.

    Example:
        {{ 'hello' | base64encode }} -> aGVsbG8=
    """
    return base64.b64encode(value if isinstance(value, bytes) else to_text(value).encode()).decode()


@filter_()
def base64decode(value: Any) -> str:
    """Return the text that `base64encode` encoded.

    Example:
        {{ 'aGVsbG8=' | base64decode }} -> hello
    """
    try:
        return base64.b64decode(to_text(value), validate=True).decode("utf-8", "replace")
    except binascii.Error as error:
        raise ExpressionError("expression.value", f"the text is no base 64: {error}") from None
