"""Which of a repository's own rules count for a commit: those in force, which reviewers have seen, and its own.

What grants rights is never taken from the commit that asks for them: while it is planned, reviewed or activated, a flow
must satisfy both, so what a commit forbids counts at once, and what it frees from the next commit on. Where things
stand is what the commit itself says. An order to go to a commit takes that commit by its own rules alone.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

from runner.errors import MainstemError, Problem
from runner.policies import rule_problems
from runner.previews import base_of
from runner.rules import INVALID, SETTINGS_FILE, RepositoryRules, RulesError, changed_rules, no_file, parse_rules
from runner.settings import Settings
from runner.store.records import Environment
from sync.names import SUBMODULE
from sync.sifting import Facts, Questions
from sync.sources import Source

_KINDS: Final = {stat.S_IFDIR: "a folder", stat.S_IFLNK: "a symbolic link", SUBMODULE: "a submodule"}


def kind_of(mode: int) -> str:
    """Return what something is that has a mode of git's and is no file, such as `a folder`."""
    return _KINDS.get(stat.S_IFMT(mode), "something else")


def read_rules(source: Source, commit: str) -> RepositoryRules:
    """Return what `.mainstem.yaml` at the root of a commit says; nothing is said where there is none.

    Raises:
        RulesError: `repository.settings.invalid`.
        InvalidError: `repository.file.large` when the file is larger than any that is read.
    """
    mode, blob = source.repository.entry(commit, SETTINGS_FILE)
    if not mode:
        return RepositoryRules()
    if not stat.S_ISREG(mode):  # taken for absent, it would free the next commit of all rules
        raise no_file(kind_of(mode))
    source.ensure([blob])
    return parse_rules(source.repository.blob(blob))


@dataclass(frozen=True, slots=True)
class Ruling:
    """The rules of a planned commit (`own`), those in force before it, and what is wrong with its file."""

    own: RepositoryRules
    in_force: RepositoryRules
    problems: tuple[Problem, ...] = ()
    is_ordered: bool = False

    @classmethod
    def of(cls, source: Source, environment: Environment, commit: str, *, is_ordered: bool = False) -> Self:
        """Return the rules that count for a commit that is planned for an environment. Its files are readable."""
        in_force = rules_in_force(source, environment)
        try:
            return cls(read_rules(source, commit), in_force, is_ordered=is_ordered)
        except RulesError as error:
            return cls(RepositoryRules(), in_force, error.problems, is_ordered)
        except MainstemError as error:
            if not error.code.startswith("repository.file"):
                raise
            problem = Problem(INVALID, error.message, file=SETTINGS_FILE, hint=error.hint)
            return cls(RepositoryRules(), in_force, (problem,), is_ordered)

    @property
    def counting(self) -> tuple[RepositoryRules, ...]:
        """Return those that flows must satisfy: all of them."""
        return (self.own,) if self.is_ordered or self.own == self.in_force else (self.in_force, self.own)

    @property
    def changed(self) -> tuple[str, ...]:
        """Return what the commit says otherwise than what is in force, a line for each key."""
        return () if self.problems else changed_rules(self.in_force, self.own)

    @property
    def required(self) -> tuple[str, ...]:
        """Return the checks that must be green, by name; an order has its reasons not to wait for any."""
        if self.is_ordered:
            return ()
        return tuple(sorted({name for rules in self.counting for name in rules.checks.required}))

    @property
    def tests(self) -> bool:
        """Whether the tests of its flows must pass; an order does not wait for them either."""
        return not self.is_ordered and any(rules.checks.tests == "required" for rules in self.counting)

    @property
    def wait_s(self) -> int:
        """Return the seconds to wait for them: the longest that anybody says who requires some."""
        waiting = (rules.checks for rules in self.counting if rules.checks.required or rules.checks.tests)
        return max((checks.within_s for checks in waiting), default=0)

    def asked(self, ask: Questions, settings: Settings) -> Questions:
        """Return the questions of a plan, with what the rules say about all flows together beside the operator's."""
        if not any(rules.policies or rules.namespaces is not None for rules in self.counting):
            return ask
        return replace(ask, check=lambda located: (*ask.check(located), *self.refused(located, settings)))

    def refused(self, located: Sequence[tuple[str, Facts]], settings: Settings) -> Iterator[Problem]:
        """Yield an error for each flow and task that does what the rules forbid, by the file of the flow."""
        for rules in self.counting:
            yield from self._foreign(rules, located)
        policies = [rule for rules in self.counting for rule in rules.policies]
        if policies:
            yield from rule_problems(settings, policies, ((path, facts.use) for path, facts in located))

    def _foreign(self, rules: RepositoryRules, located: Sequence[tuple[str, Facts]]) -> Iterator[Problem]:
        names = ", ".join(rules.namespaces or ()) or "none"
        is_new = self.own.namespaces != rules.namespaces
        later = "; what this commit says of them counts from the next one on" if is_new else ""
        for path, facts in located:
            namespace = facts.outline.key[0]
            if not rules.allows(base_of(namespace) or namespace):
                text = f"{SETTINGS_FILE} does not let this repository have flows of namespace {namespace!r}"
                yield Problem("flow.namespace.forbidden", text, file=path, hint=f"it names: {names}{later}")


def rules_in_force(source: Source, environment: Environment) -> RepositoryRules:
    """Return the rules of the active commit of an environment, none where nothing is active.

    An environment of before there were any is read at its active commit, where that is here.
    """
    if environment.rules is not None:
        return RepositoryRules.of_json(environment.rules)
    if environment.active is None or environment.active not in source.repository:
        return RepositoryRules()
    try:
        return read_rules(source, environment.active)
    except RulesError:  # it was written for a form of before, and forbade nothing
        return RepositoryRules()
