"""What a repository requires of a commit before it is activated: checks of its forge, and the tests of its flows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from runner.errors import MainstemError
from runner.reports.text import cut
from runner.store import Store
from runner.store.records import Environment, Repository
from sync.activation import Gate, Outcome
from sync.forges.api import ForgeApi
from sync.forges.check_states import CheckState
from sync.inquiry import MOST_ROUNDS, Answer, Inquiry, Question
from sync.origins import Origins
from sync.plan import Plan
from sync.plan_text import short
from sync.reviews.flow_tests import Tested
from sync.trials import Trials

_UNKNOWN: Final = "environment.checks.unknown"
_NOT_REQUIRED: Final = Tested("", is_good=True)
_MOST_TEXT: Final = 500
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Checks:
    """Says whether a commit may be activated. It is asked again at each look, in bounds.

    `api` opens the API of a repository at its forge, which is asked while nobody holds the lock of the repository.
    """

    store: Store
    origins: Origins
    clock: Callable[[], datetime]
    api: Callable[[Repository], ForgeApi | None]
    trials: Trials

    def asking(self, inquiry: Inquiry, look: Callable[[Inquiry], T]) -> T:
        """Return what `look` comes to, which takes the lock of a repository and asks the `gate` with the inquiry.

        It is called again once the forge has answered. Where others push all the time what it has open stays so.
        """
        found = look(inquiry)
        for _ in range(MOST_ROUNDS):
            if not inquiry.put(self._asked):
                break
            found = look(inquiry)
        return found

    def gate(self, plan: Plan, *, inquiry: Inquiry | None = None, is_anew: bool = False) -> Gate:
        """Return whether the checks and tests of a plan are green, and what is said where they are not.

        With an `inquiry` the answers of the forge are taken from there; without it, for a repository that has no forge,
        it is asked on the spot. With `is_anew` tests that failed before are run once more.

        Raises:
            FetchError: the files of the commit cannot be fetched for its tests.
        """
        if not plan.required and not plan.tests:
            return Gate(is_open=True)
        environment = self.store.read(lambda db: db.environments.get(plan.environment))
        assert environment is not None, "a plan is one of an environment"
        tested = self._tested(plan, environment, is_anew=is_anew and (inquiry is None or inquiry.is_first))
        if tested is not None and not tested.is_good:
            return _failed(plan, tested)
        running = ["its tests run"] if tested is None else []
        states = self._states(plan, environment, inquiry)
        if states is None:
            return Gate(line=f"revision {short(plan.commit)} waits: its checks are asked for", is_asked=False)
        if isinstance(states, MainstemError):
            line = f"{', '.join(plan.required)} cannot be asked for: {states}"
            return self._judged(plan, [line, *running], is_over=states.code == _UNKNOWN)
        waiting = [f"{name} is {state}" for name, state in states.items() if state is not CheckState.GREEN]
        return self._judged(plan, [*waiting, *running])

    def _tested(self, plan: Plan, environment: Environment, *, is_anew: bool) -> Tested | None:
        if not plan.tests:
            return _NOT_REQUIRED
        source = self.origins.get(environment.repository)
        return self.trials.of(plan, environment.repository, source, is_anew=is_anew)

    def _states(self, plan: Plan, environment: Environment, inquiry: Inquiry | None) -> Answer | None:
        """Return what the forge said of each required check; None when it is to be asked first."""
        if not plan.required:
            return {}
        question = Question(environment.repository, plan.commit, plan.required)
        return self._asked(question) if inquiry is None else inquiry.answer(plan.environment, question)

    def _asked(self, question: Question) -> Answer:
        """Ask the forge; a check that it does not know is open."""
        try:
            with self._api(question.repository) as api:
                found = api.check_states(question.commit, question.names)
        except MainstemError as error:
            return error
        return {name: found.get(name, CheckState.OPEN) for name in question.names}

    def _api(self, repository: str) -> ForgeApi:
        found = self.api(self.origins.credentials(repository))
        if found is None:
            message = f"repository {repository} has no forge with an API, or there is no token for it"
            raise MainstemError(_UNKNOWN, message)
        found.hurry()
        return found

    def _judged(self, plan: Plan, left: Sequence[str], *, is_over: bool = False) -> Gate:
        """Return the gate of a plan of which so much is `left` to become green."""
        if not left:
            return Gate(is_open=True)
        what = ", ".join(left)
        until = self._since(plan) + timedelta(seconds=plan.wait_s)
        if is_over:
            return Gate(line=f"revision {short(plan.commit)} not activated: {what}", is_over=True)
        if self.clock() < until:
            return Gate(line=f"revision {short(plan.commit)} waits for its checks until {until:%H:%M:%S} UTC: {what}")
        late = f"revision {short(plan.commit)} not activated: after {plan.wait_s} s {what}"
        return Gate(line=late, is_over=True)

    def _since(self, plan: Plan) -> datetime:
        """Return when the commit was first looked at, on top of what is active."""
        seen = self.store.read(lambda db: db.revisions.verdict(plan.environment, plan.commit))
        is_same = seen is not None and seen.result == Outcome.WAITING and seen.previous == plan.base
        return seen.at if seen is not None and is_same else self.clock()


def _failed(plan: Plan, tested: Tested) -> Gate:
    """Return the gate of a plan whose tests do not pass, with what is wrong first."""
    line = f"revision {short(plan.commit)} not activated: its tests do not pass: {tested.line}"
    for problem in tested.problems[:1]:
        line += f"; {problem.file}:{problem.line}: {problem.message}"
    return Gate(line=cut(line, _MOST_TEXT), is_over=True, problems=tested.problems)
