"""The checks that a repository requires of a commit before it is activated, asked of its forge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from runner.errors import MainstemError
from runner.store import Store
from runner.store.records import Repository
from sync.activation import Gate, Outcome
from sync.forges.api import ForgeApi
from sync.forges.check_states import CheckState
from sync.origins import Origins
from sync.plan import Plan
from sync.plan_text import short

_UNKNOWN: Final = "environment.checks.unknown"


@dataclass(frozen=True, slots=True)
class Checks:
    """Asks the forge of a repository whether a commit may be activated. It is asked again at each look, in bounds.

    Whoever asks holds the lock of the repository, so no answer is waited for long. `api` opens the API of a repository
    at its forge.
    """

    store: Store
    origins: Origins
    clock: Callable[[], datetime]
    api: Callable[[Repository], ForgeApi | None]

    def gate(self, plan: Plan) -> Gate:
        """Return whether the checks of a plan are green, and what is said where they are not."""
        if not plan.required:
            return Gate(is_open=True)
        environment = self.store.read(lambda db: db.environments.get(plan.environment))
        assert environment is not None, "a plan is one of an environment"
        try:
            with self._api(environment.repository) as api:
                states = api.check_states(plan.commit, plan.required)
        except MainstemError as error:
            line = f"{', '.join(plan.required)} cannot be asked for: {error}"
            return self._judged(plan, {}, line, is_over=error.code == _UNKNOWN)
        return self._judged(plan, states)

    def _api(self, repository: str) -> ForgeApi:
        found = self.api(self.origins.credentials(repository))
        if found is None:
            message = f"repository {repository} has no forge with an API, or there is no token for it"
            raise MainstemError(_UNKNOWN, message)
        found.hurry()
        return found

    def _judged(
        self, plan: Plan, states: Mapping[str, CheckState], failure: str | None = None, *, is_over: bool = False
    ) -> Gate:
        left = {name: states.get(name, CheckState.OPEN) for name in plan.required}
        left = {name: state for name, state in left.items() if state is not CheckState.GREEN}
        if not left:
            return Gate(is_open=True)
        what = failure or ", ".join(f"{name} is {state}" for name, state in left.items())
        until = self._since(plan) + timedelta(seconds=plan.wait_s)
        if is_over:
            return Gate(line=f"revision {short(plan.commit)} not activated: {what}", is_over=True)
        if self.clock() < until:
            return Gate(line=f"revision {short(plan.commit)} waits for its checks until {until:%H:%M:%S} UTC: {what}")
        late = f"revision {short(plan.commit)} not activated: after {plan.wait_s} s {what}"
        return Gate(line=late, is_over=True)

    def _since(self, plan: Plan) -> datetime:
        """Return when the commit was first looked at, on top of what is active."""
        seen = self.store.read(lambda db: db.revisions.of_commit(plan.environment, plan.commit))
        is_same = seen is not None and seen.result == Outcome.WAITING and seen.previous == plan.base
        return seen.at if seen is not None and is_same else self.clock()
