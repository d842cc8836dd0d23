"""The verdicts on all flows, for people and for scripts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

from sync.kestra.assessment import Assessment, Verdict

_SHOWN: Final = 20
_LACKS: Final = {
    "type": "types that are missing",
    "property": "properties that are not understood",
    "expression": "functions and filters that are missing, and faults of expressions",
}
_LABELS: Final = {
    Verdict.UNCHANGED: "run unchanged",
    Verdict.NOTE: "run with a note",
    Verdict.NOT_YET: "not yet",
    Verdict.NO_FLOW: "no flows",
}


def counts(found: Sequence[Assessment]) -> dict[Verdict, int]:
    """Return how many documents there are of each verdict."""
    return {verdict: sum(each.verdict is verdict for each in found) for verdict in Verdict}


def missing(found: Sequence[Assessment], kind: str) -> Counter[str]:
    """Return by how many flows each type (or property …) that stands in the way is used."""
    return Counter(
        subject
        for each in found
        if each.verdict is Verdict.NOT_YET
        for subject in {reason.subject for reason in each.reasons if reason.kind == kind}
    )


def table(place: str, found: Sequence[Assessment]) -> Iterator[str]:
    """Yield the lines for people: a row for each flow with its reasons, then the counts."""
    flows = [each for each in found if each.verdict is not Verdict.NO_FLOW]
    width = min(max((len(each.name) for each in flows), default=4), 60)
    for each in flows:
        yield f"{_clean(each.name):<{width}}  {each.verdict}".rstrip()
        for reason in each.reasons:
            where = f"{_clean(each.source.file)}:{reason.line}" if reason.line else _clean(each.source.file)
            hint = f"; {reason.hint}" if reason.hint else ""
            yield f"    {where}  {reason.kind}: {_clean(reason.message + hint)}"
    if flows:
        yield ""
    yield from _summary(place, found)


def _summary(place: str, found: Sequence[Assessment]) -> Iterator[str]:
    number = counts(found)
    flows = len(found) - number[Verdict.NO_FLOW]
    yield f"{flows} flows in {_clean(place)}"
    for verdict, label in _LABELS.items():
        if verdict is not Verdict.NO_FLOW or number[verdict]:
            share = f"  {number[verdict] * 100 // flows:>3} %" if flows and verdict is not Verdict.NO_FLOW else ""
            yield f"  {number[verdict]:>5}  {label:<16}{share}".rstrip()
    for kind, title in _LACKS.items():
        absent = missing(found, kind)
        if absent:
            yield f"{title}, by the flows that use them"
            yield from (f"  {count:>5}  {_clean(name)}" for name, count in absent.most_common(_SHOWN))
            if len(absent) > _SHOWN:
                yield f"         and {len(absent) - _SHOWN} more"
    names = secrets([each for each in found if each.verdict in {Verdict.UNCHANGED, Verdict.NOTE}])
    if names:
        yield f"secrets that the flows that run ask for: {_clean(', '.join(names))}"


def secrets(found: Sequence[Assessment]) -> list[str]:
    """Return the names of the secrets that the flows use, sorted."""
    return sorted(frozenset[str]().union(*(each.secrets for each in found)))


def as_json(place: str, found: Sequence[Assessment]) -> str:
    """Return everything as one JSON object."""
    number = counts(found)
    document = {
        "source": place,
        "counts": {
            "unchanged": number[Verdict.UNCHANGED],
            "note": number[Verdict.NOTE],
            "notYet": number[Verdict.NOT_YET],
            "noFlow": number[Verdict.NO_FLOW],
        },
        "missing": {
            "types": dict(missing(found, "type").most_common()),
            "properties": dict(missing(found, "property")),
        },
        "secrets": secrets(found),
        "flows": [_row(each) for each in found],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _row(each: Assessment) -> dict[str, Any]:
    return {
        "flow": each.name,
        "file": each.source.file,
        "verdict": each.verdict.value,
        "reasons": [
            {
                "kind": reason.kind,
                "line": reason.line,
                "subject": reason.subject,
                "message": reason.message,
                "hint": reason.hint,
            }
            for reason in each.reasons
        ],
    }


def _clean(text: str) -> str:
    """Return a text of somebody else without what a terminal would act on."""
    return "".join(char if char.isprintable() else "�" for char in text)
