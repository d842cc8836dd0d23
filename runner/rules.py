"""What a repository says of itself in `.mainstem.yaml`: where things stand, and what it forbids itself.

Nothing in it widens what the operator's settings allow: namespaces are what both name, a task must pass the policies of
both, reports are kept for the shorter of two times. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from runner.errors import FlowError, Problem
from runner.expressions.registry import nearest
from runner.flows.aliases import canonical
from runner.flows.loader import Document, load
from runner.flows.models import NAMESPACE

SETTINGS_FILE: Final = ".mainstem.yaml"
INVALID: Final = "repository.settings.invalid"
MOST_BYTES: Final = 64 << 10
"""How large the file may be."""
_MOST_CONTEXTS: Final = 20
_UNKNOWN: Final = "extra_forbidden"


def _folder(value: str) -> str:
    parts = PurePosixPath(value).parts
    if ".." in parts or "/" in parts:
        raise ValueError(f"{value!r} is no folder of this repository")
    return "/".join(part for part in parts if part != ".")


Folder = Annotated[str, AfterValidator(_folder)]
Namespace = Annotated[str, Field(pattern=NAMESPACE)]
Pattern = Annotated[str, Field(min_length=1, max_length=200)]


def _context(value: str) -> str:
    if value.startswith("mainstem/") or value == "mainstem":
        raise ValueError(f"{value!r} is what this server says itself once the commit is active")
    return value


Context = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_context)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=to_camel)


class PolicyRule(_Part):
    """What flows of some namespaces may use. What it leaves out is as the operator says; it can only forbid more."""

    namespaces: tuple[Namespace | Literal["*"], ...] = ("*",)
    """Namespaces that it is for, each with all below it; `*` is all. Of several rules for one all count."""
    tasks: tuple[Pattern, ...] | None = None
    """Patterns of the types of tasks that may be used, such as `core.*` or `scripts.python.Script`."""
    runners: tuple[Pattern, ...] | None = None
    """Types of task runners that may be used."""
    images: tuple[Pattern, ...] | None = None
    """Patterns of images, such as `ghcr.io/company/*`."""
    registries: tuple[Pattern, ...] | None = None
    """Registries that images may come from."""
    networks: tuple[Pattern, ...] | None = None
    """Patterns of networks of containers."""
    service_accounts: tuple[Pattern, ...] | None = None
    """Patterns of what jobs may act as."""
    secrets: tuple[Pattern, ...] | None = None
    """Patterns of Secrets of the cluster that pods may read."""
    claims: tuple[Pattern, ...] | None = None
    """Patterns of volume claims that pods may mount."""
    csi_drivers: tuple[Pattern, ...] | None = None
    """Patterns of drivers of volumes that a `podSpec` describes itself (`csi`)."""
    cluster_namespaces: tuple[Pattern, ...] | None = None
    """Patterns of namespaces of a cluster in which pods may start, which flows then name."""
    worker_groups: tuple[Pattern, ...] | None = None
    """Patterns of worker groups that tasks may ask for; tasks that name none are always taken."""
    volumes: Literal[False] | None = None
    """`false` forbids to mount folders of the host, where the operator allows it."""
    privileged: Literal[False] | None = None
    """`false` forbids privileged containers, where the operator allows them."""

    def covers(self, namespace: str) -> bool:
        """Whether it is for a namespace."""
        return any(name in {"*", namespace} or namespace.startswith(f"{name}.") for name in self.namespaces)

    def allows_task(self, type_name: str) -> bool:
        """Whether a task of this type may be used, whichever of its spellings the flow or the pattern has."""
        return self.tasks is None or any(fnmatchcase(canonical(type_name), canonical(each)) for each in self.tasks)


class RequiredChecks(_Part):
    """What must be green before a commit is activated: checks at the forge, and tests that this server runs."""

    required: Annotated[tuple[Context, ...], Field(max_length=_MOST_CONTEXTS)] = ()
    """Names of commit statuses or check runs, such as `ci/build`, as the forge shows them."""
    tests: Literal["required"] | None = None
    """`required`: the tests of flows that are in the commit must pass on this server."""
    within_s: int = Field(default=3_600, ge=10, le=86_400)
    """Seconds to wait for them, from the first look at the commit on: 10 to 86,400."""


class ReportRules(_Part):
    """What becomes of reports, within what the operator's settings allow."""

    enabled: bool | None = None
    """`false` keeps runs of the environments of this commit out of the reports."""
    include: Literal["default", "all"] | None = None
    """`default` gives a page to fewer runs, where the operator has set `all`."""
    retention_days: int | None = Field(default=None, ge=1)
    """Days after which a run leaves the branch, if they are fewer than the operator's."""
    max_pages: int | None = Field(default=None, ge=1)
    """Pages of single runs that are kept, if they are fewer than the operator's."""


class RepositoryRules(_Part):
    """The content of `.mainstem.yaml`, at the root of a repository. All keys may be left out."""

    version: Literal[1] = 1
    """The version of this form."""
    flows: Folder | None = None
    """The folder of the flows, from the root; without it the path of the environment."""
    files: Folder | None = None
    """The folder of namespace files, from the root; without it they stand beside the flows."""
    namespaces: tuple[Namespace, ...] | None = None
    """Namespaces that its flows may have, each with all below it, of those that the environment owns."""
    policies: tuple[PolicyRule, ...] = ()
    """What its flows may use, beside what the operator's `runnerPolicies` say."""
    checks: RequiredChecks = RequiredChecks()
    """What must be green before a commit is activated."""
    reports: ReportRules = ReportRules()
    """What becomes of reports."""

    def allows(self, namespace: str) -> bool:
        """Whether flows may have a namespace, as far as the repository itself says."""
        wanted = self.namespaces
        return wanted is None or any(namespace == name or namespace.startswith(f"{name}.") for name in wanted)

    def policies_for(self, namespace: str) -> tuple[PolicyRule, ...]:
        """Return the policies that are for a namespace; all of them count."""
        return tuple(rule for rule in self.policies if rule.covers(namespace))

    def as_json(self) -> dict[str, Any]:
        """Return what was said, in the words of the file and without what was left out."""
        said: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
        return said

    @classmethod
    def of_json(cls, said: Mapping[str, Any] | None) -> RepositoryRules:
        """Return what `as_json` gave; nothing is said where there is None."""
        return cls.model_validate_json(json.dumps(said or {}))


class RulesError(FlowError):
    """A `.mainstem.yaml` cannot be used; `problems` are all that is wrong with it, each with its place."""


def parse_rules(source: bytes) -> RepositoryRules:
    """Return what a `.mainstem.yaml` says.

    Raises:
        RulesError: `repository.settings.invalid`, also when it is no YAML, or too large.
    """
    if len(source) > MOST_BYTES:
        raise too_large(len(source))
    try:
        document = load(source, file=SETTINGS_FILE)
    except FlowError as error:
        if error.code == "yaml.document.empty":
            return RepositoryRules()
        raise _refused([_as_settings(problem) for problem in error.problems]) from error
    value = {} if document.value is None else document.value
    if not isinstance(value, Mapping):
        keys = ", ".join(map(_alias, RepositoryRules.model_fields))
        raise _refused([_problem(document, (), f"it is a map; its keys are {keys}", "flows: pipelines")])
    try:
        return RepositoryRules.model_validate_json(json.dumps(value))
    except ValidationError as error:
        raise _refused(list(_problems(document, error))) from None


def no_file(what: str) -> RulesError:
    """Return the error for something else where the file should stand, such as `a folder`."""
    hint = "commit it as a file, or take it away: that counts from the next commit on"
    return _refused([Problem(INVALID, f"it is {what}, not a file", file=SETTINGS_FILE, hint=hint)])


def too_large(size: int) -> RulesError:
    """Return the error for a file of so many bytes."""
    message = f"it has {size:,} bytes; the limit is {MOST_BYTES:,}"
    return _refused([Problem(INVALID, message, file=SETTINGS_FILE, hint="keep what is no setting out of it")])


def _refused(problems: list[Problem]) -> RulesError:
    first = problems[0]
    return RulesError(INVALID, f"{SETTINGS_FILE}: {first.message}", hint=first.hint, problems=tuple(problems))


def _as_settings(problem: Problem) -> Problem:
    return Problem(
        INVALID, problem.message, problem.severity, SETTINGS_FILE, problem.line, problem.column, problem.hint
    )


def _problems(document: Document, error: ValidationError) -> Iterator[Problem]:
    seen: set[tuple[Any, ...]] = set()
    for each in error.errors(include_url=False, include_context=False):
        path = _within(document.value, each["loc"])
        if path in seen:  # one value that fits none of several forms
            continue
        seen.add(path)
        where = ".".join(map(str, path))
        if each["type"] == _UNKNOWN:
            known = [_alias(name) for name in _model_at(path[:-1]).model_fields]
            hint = nearest(str(path[-1]), known) or f"its keys are {', '.join(known)}"
            yield _problem(document, path, f"{where} is no key of this file", hint, is_key=True)
        else:
            message = each["msg"].removeprefix("Value error, ")
            yield _problem(document, path, f"{where}: {message[:1].lower()}{message[1:]}")


def _within(value: Any, loc: Iterable[Any]) -> tuple[Any, ...]:
    """Return as much of a place as lies in the document: what follows names alternatives of a type."""
    path: list[Any] = []
    for part in loc:
        is_item = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if not is_item and not (isinstance(value, Mapping) and part in value):
            break
        value = value[part]
        path.append(part)
    return tuple(path)


def _model_at(path: Sequence[Any]) -> type[BaseModel]:
    models: dict[Any, type[BaseModel]] = {"policies": PolicyRule, "checks": RequiredChecks, "reports": ReportRules}
    return models.get(path[0], RepositoryRules) if path else RepositoryRules


def _alias(name: str) -> str:
    return to_camel(name)


def _problem(
    document: Document, path: tuple[Any, ...], message: str, hint: str | None = None, *, is_key: bool = False
) -> Problem:
    mark: Any = (document.positions.key if is_key else document.positions.at)(path)
    return Problem(INVALID, message, file=SETTINGS_FILE, line=mark.line, column=mark.column, hint=hint)


def changed_rules(before: RepositoryRules, after: RepositoryRules) -> tuple[str, ...]:
    """Return a line for each key that one says otherwise than the other, such as `checks.required [ci] -> nothing`."""
    old, new = dict(_leaves(before.as_json())), dict(_leaves(after.as_json()))
    return tuple(
        f"{key} {_shown(old.get(key))} -> {_shown(new.get(key))}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    )


def _leaves(said: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in said.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        elif key == "policies":
            yield from (
                (f"policies[{number}].{name}", inner)
                for number, rule in enumerate(value)
                for name, inner in rule.items()
            )
        else:
            yield f"{above}{key}", value


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
