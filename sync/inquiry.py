"""What is asked of a forge about the checks of commits: noted under the lock of a repository, asked when it is free.

A forge may take its time, and the lock keeps all others from the repository. So whoever looks at it under the lock
notes what it would have to know, lets go of the lock while the forge is asked, and looks anew with the answers: what
has changed meanwhile is seen then, and asked about if need be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from runner.errors import MainstemError
from sync.forges.check_states import CheckState

Answer = Mapping[str, CheckState] | MainstemError
"""What became of each check, or why the forge did not say."""

MOST_ROUNDS: Final = 3
"""How often the forge is asked in one look, where what is to be asked changes each time."""


@dataclass(frozen=True, slots=True)
class Question:
    """Which checks of a commit are asked for."""

    repository: str
    commit: str
    names: tuple[str, ...]


class Inquiry:
    """The questions of one look at a repository, by the environments that have them, and the answers."""

    def __init__(self) -> None:
        self._answers: dict[Question, Answer] = {}
        self._open: dict[str, Question] = {}
        self._again: frozenset[str] | None = None

    @property
    def is_first(self) -> bool:
        """Whether nothing was asked yet."""
        return self._again is None

    def concerns(self, environment: str) -> bool:
        """Whether an environment is to be looked at: each at first, and then those that an answer has come for."""
        return self._again is None or environment in self._again

    def is_open(self, environment: str) -> bool:
        """Whether an environment has a question without an answer, so that nothing was decided for it."""
        return environment in self._open

    def answer(self, environment: str, question: Question) -> Answer | None:
        """Return the answer to a question of an environment; None notes it as open."""
        found = self._answers.get(question)
        if found is None:
            self._open[environment] = question
        return found

    def put(self, ask: Callable[[Question], Answer]) -> bool:
        """Ask what is open; False when nothing was. The caller holds no lock."""
        if not self._open:
            return False
        for question in dict.fromkeys(self._open.values()):
            self._answers[question] = ask(question)
        self._again, self._open = frozenset(self._open), {}
        return True
