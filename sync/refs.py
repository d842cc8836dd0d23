"""Which ref an environment follows when it names a pattern, such as `refs/tags/v*` or `refs/heads/release/*`. Pure.

Of the refs that fit it is the highest version. Pre-releases (`v2.0.0-rc.1`, `2.0b1`) are passed over unless the pattern
asks for them. Where no name is a version, names are compared with their numbers as numbers, so that of dates and of
counters the last one counts. The dates of tags do not matter: anybody can write any, and a look would have to fetch
every tag.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any, Final

from runner.store.records import Environment

_WILD: Final = re.compile(r"[*?\[]")
_SET: Final = re.compile(r"\[[^]]+\]")
_VERSION: Final = re.compile(r"[^0-9]*?(?P<numbers>[0-9]+(?:\.[0-9]+)*)(?P<rest>[^0-9+][^+]*)?(?:\+.*)?")
_POST: Final = re.compile(r"[-._]?(?:post|rev|r|p)[-._]?([0-9]*)", re.IGNORECASE)
_PRE: Final = re.compile(r"[-._]?(?:dev|alpha|beta|preview|pre|rc|snapshot|a|b|c|m)(?![a-z]).*", re.IGNORECASE)
_PARTS: Final = re.compile(r"[0-9]+|[^0-9]+")
_IDENTIFIERS: Final = re.compile(r"[0-9]+|[a-z]+")
_SEMANTIC: Final = 3  # numbers of a version that may have any words behind a `-`
_LAST: Final = (1, 0)
_LONGEST: Final = 255

Key = tuple[Any, ...]


def is_pattern(ref: str) -> bool:
    """Whether a ref stands for all that fit it."""
    return _WILD.search(ref) is not None


def beginning(ref: str) -> str:
    """Return what all refs that fit begin with; a ref that is no pattern itself."""
    return _WILD.split(ref, maxsplit=1)[0]


def fits(pattern: str, ref: str) -> bool:
    """Whether a ref is meant; `*`, `?` and `[…]` stand for characters of one segment, as in a shell."""
    wanted, given = pattern.split("/"), ref.split("/")
    return len(wanted) == len(given) and all(map(fnmatchcase, given, wanted))


def is_followed(ref: str, follows: Iterable[str]) -> bool:
    """Whether one of the refs and patterns means `ref`."""
    return any(ref == each or (is_pattern(each) and fits(each, ref)) for each in follows)


def newest(pattern: str, refs: Iterable[str]) -> str | None:
    """Return the highest version among the refs that fit a pattern, None where none does."""
    keys = {ref: _version(ref.rpartition("/")[2]) for ref in refs if fits(pattern, ref) and len(ref) <= _LONGEST}
    versions = {ref: key for ref, key in keys.items() if key is not None}
    if not versions:
        return max(keys, key=_natural, default=None)
    finals = [ref for ref, (_, kind, _) in versions.items() if kind >= _LAST]
    chosen = list(versions) if _asks_for_previews(pattern) else finals
    return max(chosen, key=lambda ref: (versions[ref], _natural(ref)), default=None)


def is_older(pattern: str, ref: str, than: str) -> bool:
    """Whether `ref` comes before another one that fits the pattern, or did."""
    return ref != than and newest(pattern, (ref, than)) == than


def would_follow(environment: Environment, ref: str, refs: Iterable[str]) -> bool:
    """Whether an environment follows `ref` once it is among `refs`."""
    if not is_pattern(environment.ref):
        return environment.ref == ref
    return newest(environment.ref, {*refs, ref}) == ref


def _asks_for_previews(pattern: str) -> bool:
    """Whether a word or a `-` is written behind the first wildcard, as in `v*-*` or `v*rc*`; `v[0-9]*.*` has none."""
    name = pattern.rpartition("/")[2]
    return any(char.isalpha() or char == "-" for char in _SET.sub("", name[len(beginning(name)) :]))


def _version(name: str) -> tuple[Key, Key, Key] | None:
    """Return the numbers, what kind of release it is, and the order within the kind; None for no version."""
    found = _VERSION.fullmatch(name)
    if found is None:
        return None
    numbers, rest = [int(part) for part in found["numbers"].split(".")], found["rest"] or ""
    count = len(numbers)
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    if not rest:
        return tuple(numbers), _LAST, ()
    if post := _POST.fullmatch(rest):
        return tuple(numbers), (1, 1), (int(post[1] or 0),)
    if _PRE.fullmatch(rest) or (rest.startswith("-") and count >= _SEMANTIC):
        return tuple(numbers), (0, 0), _preview(rest)
    return None


def _preview(rest: str) -> Key:
    """Return the order of pre-releases: identifiers one by one, numbers before words, development versions first."""
    words = rest.lower().lstrip("-._")
    return (not words.startswith("dev"), *_ordered(_IDENTIFIERS.findall(words)))


def _natural(name: str) -> Key:
    return _ordered(_PARTS.findall(name))


def _ordered(parts: Iterable[str]) -> Key:
    # `²` is a digit for Python and no number.
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)
