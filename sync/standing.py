"""Whether an environment needs nothing done for the commit that its ref names, and the state that it is in then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from runner.store import Store
from runner.store.records import Environment, Pin
from sync.activation import Outcome
from sync.drift import DRIFTED
from sync.plan_text import pinned_line, quarantine_line, quarantined_in


@dataclass(frozen=True, slots=True)
class Standing:
    """Decides it from what the store says; `pin_of` gives what keeps an environment where it is."""

    store: Store
    pin_of: Callable[[str], Pin | None]
    clock: Callable[[], datetime]

    def is_settled(self, environment: Environment, head: str, *, is_forced: bool) -> bool:
        """Whether nothing needs doing for `head`, and say that it was looked at."""
        now, pin = self.clock(), self.pin_of(environment.name)
        state, message = self._state(environment, pin)
        seen = self.store.read(lambda db: db.revisions.verdict(environment.name, head))
        waits = pin is not None and not is_forced and seen is not None and seen.result == Outcome.PINNED
        if head == environment.active or waits:
            if environment.state == DRIFTED and state == "OK":  # until a look at the flows says otherwise
                state, message = environment.state, environment.message
            message = environment.message if waits else message
            self.store.write(lambda db: db.environments.set_state(environment.name, state, message, checked_at=now))
            return True
        is_refused = seen is not None and seen.result in {Outcome.INVALID, Outcome.HELD, Outcome.UNCHECKED}
        if is_forced or not is_refused or seen is None or seen.previous != environment.active:
            return False
        state = "HELD" if seen.result == Outcome.HELD else "DEGRADED"
        held = head if state == "HELD" else None
        message = environment.message
        self.store.write(
            lambda db: db.environments.set_state(environment.name, state, message, held=held, checked_at=now)
        )
        return True

    def _state(self, environment: Environment, pin: Pin | None) -> tuple[str, str | None]:
        """Return the state, and why, of an environment in which nothing needs doing."""
        if pin is not None:
            return "PINNED", pinned_line(pin)
        row = self.store.read(lambda db: db.revisions.quarantine(environment.name, environment.active or ""))
        names = quarantined_in(row.changes) if row is not None else []
        return ("QUARANTINED", quarantine_line(names)) if names else ("OK", None)
