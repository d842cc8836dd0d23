"""The state of one render: where names are looked up, and how much time and text is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import thread_time
from typing import Any

from runner.expressions.limits import Limits, too_much
from runner.expressions.services import Scope, Services

Evaluate = Callable[["Frame"], Any]
Emit = Callable[["Frame", list[Any]], None]


class Frame:
    """Belongs to one render of one template; a nested `render()` gets a child that shares its clock.

    `locals` is a stack of the names that the template binds (innermost last); a macro starts a fresh stack.
    """

    __slots__ = ("blocks", "deadline", "depth", "left", "limits", "locals", "macros", "scope", "typed", "variables")

    def __init__(self, scope: Scope, *, typed: bool = False, parent: Frame | None = None) -> None:
        self.scope = scope
        self.variables: Mapping[str, Any] = scope.variables
        self.limits: Limits = scope.limits
        self.typed = typed
        self.left = self.limits.text
        self.locals: list[dict[str, Any]] | None = None
        self.macros: dict[str, Callable[..., Any]] | None = None
        self.blocks: dict[str, Callable[[], str]] | None = None
        if parent is None:
            self.depth = 0
            self.deadline = 0.0
        else:
            self.depth = parent.depth + 1
            self.deadline = parent.deadline

    @property
    def services(self) -> Services:
        """The outside."""
        return self.scope.services

    def tick(self) -> None:
        """Stop the render when its time is over; called once per step of bounded cost.

        The clock is the CPU time of the thread, so that neither waiting for a service nor a busy machine counts. It
        starts with the first step: templates without calls and loops never look at it.
        """
        now = thread_time()
        if not self.deadline:
            self.deadline = now + self.limits.seconds
        elif now > self.deadline:
            raise too_much(f"the expression took longer than {self.limits.seconds} s")

    def take(self, text: str) -> str:
        """Count `text` as output and return it."""
        self.left -= len(text)
        if self.left < 0:
            raise too_much(f"the output has more than {self.limits.text} characters")
        return text

    def enter(self) -> None:
        """Go one level deeper (a macro or a nested render); `leave` comes back."""
        self.depth += 1
        if self.depth > self.limits.nesting:
            raise too_much(f"macros or renders are nested deeper than {self.limits.nesting}")

    def leave(self) -> None:
        """Undo `enter`."""
        self.depth -= 1

    def assign(self, name: str, value: Any) -> None:
        """Bind `name` where it is bound already, else in the innermost scope (Pebble's `set`)."""
        stack = self.locals
        assert stack is not None  # a template that binds names starts with one
        for names in reversed(stack):
            if name in names:
                names[name] = value
                return
        (stack[0] if name in self.variables else stack[-1])[name] = value
