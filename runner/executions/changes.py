"""Who wants to hear when an execution changes: followers in this process, woken after each commit.

`relay` carries the news to followers in other processes.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable

from runner.executions.models import Execution

Listener = Callable[[Execution], None]


class Changes:
    """Publish and subscribe by execution id, within one process. Listeners must be quick and must not raise."""

    def __init__(self) -> None:
        self.relay: Callable[[str], None] = lambda _execution_id: None
        self._lock = threading.Lock()
        self._listeners: defaultdict[str, list[Listener]] = defaultdict(list)

    def subscribe(self, execution_id: str, listener: Listener) -> Callable[[], None]:
        """Call `listener` with each committed state of the execution; the returned function ends that."""
        with self._lock:
            self._listeners[execution_id].append(listener)

        def unsubscribe() -> None:
            with self._lock:
                listeners = self._listeners.get(execution_id, [])
                if listener in listeners:
                    listeners.remove(listener)
                if not listeners:
                    self._listeners.pop(execution_id, None)

        return unsubscribe

    def publish(self, execution: Execution) -> None:
        """Tell the followers of an execution, here and elsewhere, its committed state."""
        self.relay(execution.id)
        self.deliver(execution)

    def followed(self, execution_ids: Iterable[str]) -> list[str]:
        """Return those executions that somebody in this process follows."""
        with self._lock:
            return [execution_id for execution_id in execution_ids if execution_id in self._listeners]

    def deliver(self, execution: Execution) -> None:
        """Tell the followers in this process."""
        if not self._listeners:
            return
        with self._lock:
            listeners = list(self._listeners.get(execution.id, ()))
        for listener in listeners:
            listener(execution)
