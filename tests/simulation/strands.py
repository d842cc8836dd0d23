"""Threads of which one runs at a time, and who is next is drawn by chance that can be repeated.

The code under test is ordinary blocking code. It runs on threads of its own, but a thread only moves while it holds the
baton, and gives it back at every gate. So everything that may happen between two gates of one thread can be tried, and
the same seed tries the same again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Died(BaseException):
    """Raised inside a thread whose process is dead: it must not get any further, and no `except Exception` sees it."""


class Strand:
    """One thread that runs only when it is resumed, until its next gate or its end. `job`: the claim it works under."""

    def __init__(
        self,
        name: str,
        work: Callable[[], object],
        failed: Callable[[str, Exception], None],
        job: tuple[str, int] | None = None,
    ) -> None:
        self.name = name
        self.job = job
        self.is_over = False
        self.is_dead = False
        self._work = work
        self._failed = failed
        self._go = threading.Semaphore(0)
        self._baton = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def resume(self) -> None:
        """Let the thread run to its next gate, or to its end."""
        self._go.release()
        if not self._baton.acquire(timeout=60):
            raise AssertionError(f"{self.name} waits for something that only another thread can do")

    def die(self) -> None:
        """End the thread where it is; what it would have done next is never done."""
        self.is_dead = True
        while not self.is_over:
            self.resume()

    def gate(self) -> None:
        """Called by the thread itself: let others run, and go on when it is resumed. Raises `Died`."""
        self._baton.release()
        self._go.acquire()
        if self.is_dead:
            raise Died

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self.is_dead:
                self._work()
        except Died:
            pass
        except Exception as error:  # noqa: BLE001 - as the loops of a real process: logged, and the next job comes
            self._failed(self.name, error)
        finally:
            self.is_over = True
            self._baton.release()
