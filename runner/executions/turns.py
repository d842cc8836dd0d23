"""Who moves which execution forward in this process: one thread at a time.

Two that decide on one execution at once would only take each other's commit away. Whoever is rung for one that another
thread has leaves it a note, and that thread looks once more: so what many workers report meanwhile is one decision.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable


class Turns:
    """The executions that threads of this process have now. Safe for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted: dict[str, bool] = {}  # those that somebody has, and whether they were rung for meanwhile

    def take(self, execution_ids: Iterable[str]) -> list[str]:
        """Return those that nobody has, which the caller has from now on; leave a note for the others."""
        with self._lock:
            taken = []
            for execution_id in execution_ids:
                if execution_id in self._noted:
                    self._noted[execution_id] = True
                else:
                    self._noted[execution_id] = False
                    taken.append(execution_id)
            return taken

    def leave(self, execution_ids: Iterable[str]) -> list[str]:
        """Give back those without a note; return the others, which the caller keeps, to look at once more."""
        with self._lock:
            again = []
            for execution_id in execution_ids:
                if self._noted[execution_id]:
                    self._noted[execution_id] = False
                    again.append(execution_id)
                else:
                    del self._noted[execution_id]
            return again

    def drop(self, execution_ids: Iterable[str]) -> list[str]:
        """Give back all of them; return those with a note, for which somebody else has to look."""
        with self._lock:
            return [execution_id for execution_id in execution_ids if self._noted.pop(execution_id)]
