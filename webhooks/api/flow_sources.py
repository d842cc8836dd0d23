"""Texts in the sources of flows: found, and replaced by one commit for all of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import re2  # type: ignore[import-untyped]  # no stubs are published

from runner.access import Permission, allows
from runner.errors import FlowError, InvalidError
from runner.store.records import FlowVersion
from sync.plan import FlowKey
from webhooks.answers.flows import FLOW, FOUND_IN_SOURCE, NAME
from webhooks.api.flow_bulk import named_versions
from webhooks.api.flows import BASE, active_flow, missing_flow, parsed_flow, shape, sync_of
from webhooks.call import Call, page_of
from webhooks.parameters import flag, paging, text
from webhooks.problems import RequestError
from webhooks.routes import Endpoint
from webhooks.schemas import FLAG, TEXT, WHOLE, listed, optional, page, record, word

_LONGEST_TEXT: Final = 256
_LONGEST_REPLACEMENT: Final = 10_000
_MOST_MATCHES: Final = 100  # shown of one flow
_MOST_EXPANDED: Final = 4_000_000  # characters that one request puts in
_LONGEST_SNIPPET: Final = 500
_PARTS: Final[Mapping[str, frozenset[str]]] = {
    "TASKS": frozenset({"tasks", "errors", "finally", "afterExecution", "listeners"}),
    "TRIGGERS": frozenset({"triggers"}),
    "INPUTS": frozenset({"inputs"}),
}
_SCOPES: Final = ("ALL", *_PARTS)
_KEY: Final = re.compile(r"([A-Za-z_]+)[ \t]*:")
_GROUP: Final = re.compile(r"\$(\d{1,2})")


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for in sources, in which part of them; every line is judged alone."""

    pattern: Any
    scope: str = "ALL"

    def matches(self, source: str) -> Iterator[tuple[int, str, Any]]:
        """Yield the number, the text and the first match of each line that has one."""
        for number, line in _lines_of(source, self.scope):
            found = self.pattern.search(line)
            if found is not None:
                yield number, line, found


def _lines_of(source: str, scope: str) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines that belong to a scope: what follows a key at the margin belongs to that key."""
    part = None
    for number, line in enumerate(source.splitlines(), start=1):
        key = _KEY.match(line)
        part = key[1] if key else part
        if scope == "ALL" or part in _PARTS[scope]:
            yield number, line


def compiled(query: str, *, regex: bool, case_sensitive: bool, whole_word: bool) -> Any:
    """Return the pattern of a text. Raises `RequestError` `request.parameter.invalid`."""
    if len(query) > _LONGEST_TEXT:
        raise RequestError("request.parameter.invalid", f"the text has more than {_LONGEST_TEXT} characters")
    wanted = query if regex else re.escape(query)
    flags = "" if case_sensitive else "(?i)"
    try:
        return re2.compile(f"{flags}\\b(?:{wanted})\\b" if whole_word else f"{flags}(?:{wanted})")
    except re2.error as error:
        raise RequestError("request.parameter.invalid", f"{query!r} is no regular expression: {error}") from None


def search_source(call: Call) -> dict[str, Any]:
    """Answer with a page of flows and the lines of their sources in which `q` stands; all flows without `q`."""
    pages, namespace, q = call.paging(), call.query("namespace"), call.query("q")
    pattern = q and compiled(
        q, regex=call.flag("regex"), case_sensitive=call.flag("caseSensitive"), whole_word=call.flag("wholeWord")
    )
    search = Search(pattern, (call.query("scope") or "ALL").upper()) if pattern else None
    found = []
    for version in _visible(call, namespace):
        matches = list(_shown(version, search)) if search else []
        if matches or search is None:
            found.append({"namespace": version.namespace, "id": version.flow_id, "editable": True, "matches": matches})
    return page_of(found[pages.offset : pages.offset + pages.size], len(found))


def _visible(call: Call, namespace: str | None) -> list[FlowVersion]:
    versions: list[FlowVersion] = call.services.store.read(lambda db: db.flows.list(prefix=namespace))
    return [version for version in versions if call.sees(version.namespace)]


def _shown(version: FlowVersion, search: Search) -> Iterator[dict[str, Any]]:
    for count, (number, line, found) in enumerate(search.matches(version.source)):
        if count == _MOST_MATCHES:
            return
        yield {"line": number, "column": found.start() + 1, "snippet": line[:_LONGEST_SNIPPET]}


# -------------------------------------------------------------------- replacing


@dataclass(frozen=True, slots=True)
class Replacement:
    """A search and what takes the place of each match."""

    search: Search
    expand: Callable[[Any], str]

    def lines(self, source: str, only: int | None = None) -> dict[int, tuple[str, str]]:
        """Return, by number, the lines that have a match, as they are and as they would be."""
        return {
            number: (line, self.search.pattern.sub(self.expand, line))
            for number, line, _ in self.search.matches(source)
            if only is None or number == only
        }


def _replacement(body: Mapping[str, Any]) -> Replacement:
    query, replacement, regex = body.get("query"), body.get("replacement"), body.get("regex") is True
    if not isinstance(query, str) or not query or not isinstance(replacement, str):
        raise InvalidError("request.json.invalid", "the body must hold `query` and `replacement`, both text")
    scope = str(body.get("scope") or "ALL").upper()
    if scope not in _SCOPES or len(replacement) > _LONGEST_REPLACEMENT:
        message = f"the scope must be one of {', '.join(_SCOPES)}, a replacement at most {_LONGEST_REPLACEMENT} long"
        raise InvalidError("request.json.invalid", message)
    pattern = compiled(
        query,
        regex=regex,
        case_sensitive=body.get("caseSensitive") is True,
        whole_word=body.get("wholeWord") is True,
    )

    left = _MOST_EXPANDED

    def expand(match: Any) -> str:
        # A line may match a million times: what is put in is counted before it is joined.
        nonlocal left
        put = _GROUP.sub(lambda name: _group(match, int(name[1])), replacement) if regex else replacement
        left -= len(put)
        if left < 0:
            raise RequestError("request.search.wide", f"the replacements are longer than {_MOST_EXPANDED} characters")
        return put

    return Replacement(Search(pattern, scope), expand)


def _group(match: Any, number: int) -> str:
    if number > match.re.groups:
        raise RequestError("request.parameter.invalid", f"the expression has no group ${number}")
    return match.group(number) or ""


def preview(call: Call) -> dict[str, Any]:
    """Answer with the lines that a replacement would change, in which flows; changes nothing."""
    body = call.json_map()
    replacement, namespace = _replacement(body), body.get("namespace")
    flows: list[dict[str, Any]] = []
    for version in _visible(call, namespace if isinstance(namespace, str) and namespace else None):
        lines = replacement.lines(version.source)
        if lines:
            matches = [{"line": number, "before": old, "after": new} for number, (old, new) in lines.items()]
            editable = _may_write(call, version.namespace)
            flows.append(
                {"namespace": version.namespace, "id": version.flow_id, "editable": editable, "matches": matches}
            )
    return {
        "totalMatches": sum(len(flow["matches"]) for flow in flows),
        "totalFlows": len(flows),
        "editableFlowCount": sum(1 for flow in flows if flow["editable"]),
        "flows": flows,
    }


def _may_write(call: Call, namespace: str) -> bool:
    return call.identity is not None and allows(call.identity, Permission.FLOW_WRITE, namespace)


def apply(call: Call) -> dict[str, Any]:
    """Commit the replacement in the flows that the body names; those that stay as they are are told with the reason."""
    body = call.json_map()
    replacement = _replacement(body)
    sources: dict[FlowKey, str] = {}
    skipped = []
    for key, version in named_versions(call, body.get("flows")).items():
        changed, reason = _changed(call, version, replacement)
        if changed is None:
            skipped.append({"namespace": key[0], "id": key[1], **reason})
        else:
            sources[key] = changed
    updated = _commit(call, sources)
    return {"updated": [shape(call, version, source=True) for version in updated], "skipped": skipped}


def _changed(
    call: Call, version: FlowVersion | None, replacement: Replacement, only: int | None = None
) -> tuple[str | None, dict[str, str]]:
    """Return the new source of a flow, or None and why it stays as it is."""
    if version is None or not _may_write(call, version.namespace):
        reason = ("NOT_FOUND", "there is no such flow") if version is None else ("READ_ONLY", "the token may not write")
        return None, dict(zip(("reason", "message"), reason, strict=True))
    lines = replacement.lines(version.source, only)
    if not lines:
        return None, {"reason": "NO_MATCH", "message": "the text does not stand in it"}
    if all(old == new for old, new in lines.values()):
        return None, {"reason": "NO_CHANGE", "message": "it says that already"}
    source = "".join(
        lines[number][1] + line[len(lines[number][0]) :] if number in lines else line
        for number, line in enumerate(version.source.splitlines(keepends=True), start=1)
    )
    fault = _fault(call, source, version)
    return (None, {"reason": "INVALID_FLOW", "message": fault}) if fault else (source, {})


def _fault(call: Call, source: str, version: FlowVersion) -> str | None:
    try:
        flow = parsed_flow(call, source)
    except FlowError as error:
        return error.message
    is_same = (flow.namespace, flow.id) == (version.namespace, version.flow_id)
    return None if is_same else "it would be another flow"


def _commit(call: Call, sources: Mapping[FlowKey, str]) -> list[FlowVersion]:
    if not sources:
        return []
    updated = sync_of(call).write_flows(
        list(sources.values()), actor=call.actor, mode="update", proposed=call.proposals.append
    )
    call.services.catalogue.invalidate()
    call.note(f"{len(sources)} flows", verb="replace", flows=[".".join(key) for key in sources])
    return updated


def replace_line(call: Call) -> dict[str, Any]:
    """Commit the replacement on one line of one flow, and answer with the flow; as it is when nothing matches there."""
    body = call.json_map()
    replacement, line = _replacement(body), body.get("line")
    key = (str(body.get("namespace")), str(body.get("id")))
    if not isinstance(line, int) or isinstance(line, bool):
        raise InvalidError("request.json.invalid", "the body must hold `line`, a number")
    version = active_flow(call, *key) if call.sees(key[0]) else None
    if version is None:
        raise missing_flow(*key)
    call.require(version.namespace)
    changed, reason = _changed(call, version, replacement, line)
    if reason.get("reason") == "INVALID_FLOW":
        raise InvalidError("flow.invalid", reason["message"])
    updated = _commit(call, {key: changed}) if changed is not None else [version]
    return shape(call, updated[0], source=True)


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, write, tag = Permission.FLOW_READ, Permission.FLOW_WRITE, "flows"
    how = (
        text("q", "The text, or expression, that is looked for in each line."),
        text("namespace", "Only this namespace and those below it."),
        flag("caseSensitive", "Capitals count."),
        flag("wholeWord", "Only whole words."),
        flag("regex", "`q` is a regular expression."),
        text("scope", "The part of the flow.", default="ALL", choices=_SCOPES),
    )
    asked = {
        "query": TEXT,
        "replacement": TEXT,
        "caseSensitive": optional(FLAG),
        "wholeWord": optional(FLAG),
        "regex": optional(FLAG),
        "scope": optional(word(*_SCOPES)),
    }
    json, replace = "application/json", BASE + "/source/replace"
    would = record(namespace=TEXT, id=TEXT, editable=FLAG, matches=listed(record(line=WHOLE, before=TEXT, after=TEXT)))
    skipped = record(namespace=TEXT, id=TEXT, reason=TEXT, message=TEXT)
    return [
        Endpoint(
            "GET",
            BASE + "/source",
            read,
            search_source,
            "Texts in the sources of flows",
            tag,
            query=(*how, *paging()),
            answer=page(FOUND_IN_SOURCE),
        ),
        Endpoint(
            "POST",
            replace + "/preview",
            read,
            preview,
            "What a replacement would change",
            tag,
            takes=json,
            body=record(asked, namespace=optional(TEXT)),
            answer=record(totalMatches=WHOLE, totalFlows=WHOLE, editableFlowCount=WHOLE, flows=listed(would)),
        ),
        Endpoint(
            "POST",
            replace + "/apply",
            write,
            apply,
            "Replace a text in flows (one commit)",
            tag,
            proposes=True,
            takes=json,
            body=record(asked, flows=listed(NAME)),
            answer=record(updated=listed(FLOW), skipped=listed(skipped)),
        ),
        Endpoint(
            "POST",
            replace + "/line",
            write,
            replace_line,
            "Replace a text in one line of a flow (a commit)",
            tag,
            proposes=True,
            takes=json,
            body=record(asked, namespace=TEXT, id=TEXT, line=WHOLE, column=optional(WHOLE)),
            answer=FLOW,
        ),
    ]
