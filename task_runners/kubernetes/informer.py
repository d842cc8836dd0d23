"""One watch over all pods of this product in a namespace, so that a look at a pod costs no request.

The thread starts with the first question and ends when nobody has asked for a while. A watch that broke goes on from
the last version; one whose version is too old begins with a new list. Whoever asks while the watch is behind asks the
server itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from task_runners.kubernetes.api import Api, ApiError, Object
from task_runners.kubernetes.names import OWNED

__all__ = ["Informer"]

log = logging.getLogger(__name__)

_IDLE_S: Final = 60.0
_TRUSTED_S: Final = 150.0  # bookmarks come each minute: what was heard of later than this is asked for again
_LONGEST_PAUSE_S: Final = 30.0
_GONE_KEPT: Final = 1000
_GONE: Final = 410
_REFUSED: Final = frozenset({401, 403})


class Informer:
    """The pods of one namespace as the watch last saw them."""

    def __init__(self, api: Api, reconnect_s: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.lists = self.watches = 0
        """How often pods were listed and watches begun."""
        self._api, self._reconnect_s, self._clock = api, reconnect_s, clock
        self._pods: dict[str, Object] = {}
        self._gone: OrderedDict[str, Object] = OrderedDict()
        self._lock = threading.Lock()
        self._heard_at: float | None = None
        self._asked_at = clock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._version = ""
        self._changed = threading.Condition(self._lock)

    def pod(self, name: str) -> Object | None:
        """Return a pod as it is, None when there is none. Raises `ApiError`."""
        with self._lock:
            self._asked_at = self._clock()
            self._begin()
            pod = self._pods.get(name)
            is_known = self._heard_at is not None and self._clock() - self._heard_at < _TRUSTED_S
        if is_known and pod is not None:
            return pod
        # Not there, or not known: the server decides, so that a late watch never loses a pod.
        return self._api.pod(name)

    def last_of(self, name: str) -> Object | None:
        """Return what was last seen of a pod, be it gone; None when nothing was. Asks nobody."""
        with self._lock:
            return self._pods.get(name) or self._gone.get(name)

    def wait(self, name: str, seconds: float) -> None:
        """Return when something is heard of a pod, or after `seconds`."""
        with self._changed:
            version = _version(self._pods.get(name))
            self._changed.wait_for(lambda: _version(self._pods.get(name)) != version, seconds)

    def close(self) -> None:
        """End the thread, soon."""
        self._closed.set()

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._thread is None and not self._closed.is_set():
            self._thread = threading.Thread(target=self._run, name=f"pods-{self._api.namespace}", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        failures = 0
        while not self._is_over():
            try:
                if not self._version:
                    self._list()
                self._watch()
                failures = 0
            except ApiError as error:
                failures = 0 if error.code == _GONE else failures + 1
                self._closed.wait(self._after(error, failures))

    def _after(self, error: ApiError, failures: int) -> float:
        """Return how many seconds to wait after an error, having drawn the conclusions from it."""
        if error.code == _GONE:
            self._version = ""
        if error.code in _REFUSED:
            # Each look asks the server itself then, and says what is missing.
            log.warning("pods cannot be watched", extra={"namespace": self._api.namespace, "error": error.message})
            self._forget()
            return _LONGEST_PAUSE_S
        pause = self._reconnect_s * 2 ** min(failures - 1, 5) if failures else 0.0
        return min(max(pause, error.retry_after or 0.0), _LONGEST_PAUSE_S)

    def _is_over(self) -> bool:
        with self._lock:
            is_over = self._closed.is_set() or self._clock() - self._asked_at > _IDLE_S
            if is_over:
                self._thread, self._heard_at, self._version = None, None, ""
                self._pods.clear()
            return is_over

    def _list(self) -> None:
        self.lists += 1
        self._version, pods = self._api.pods(OWNED)
        found = {pod["metadata"]["name"]: pod for pod in pods}
        with self._changed:
            for name in self._pods.keys() - found.keys():
                self._remember(name, self._pods[name])
            self._pods = found
            self._heard()

    def _watch(self) -> None:
        """Take what is told until the watch ends or nobody asks any more."""
        self.watches += 1
        for change in self._api.watch(OWNED, self._version):
            self._version = str(change["object"]["metadata"]["resourceVersion"])
            self._take(change["type"], change["object"])
            if self._is_unasked():
                return

    def _take(self, kind: str, obj: Object) -> None:
        name = obj["metadata"].get("name", "")
        with self._changed:
            if kind == "DELETED":
                self._pods.pop(name, None)
                self._remember(name, obj)
            elif kind in {"ADDED", "MODIFIED"}:
                self._pods[name] = obj
            self._heard()

    def _heard(self) -> None:
        self._heard_at = self._clock()
        self._changed.notify_all()

    def _forget(self) -> None:
        with self._lock:
            self._heard_at = None
            self._pods.clear()

    def _remember(self, name: str, pod: Object) -> None:
        self._gone[name] = pod
        while len(self._gone) > _GONE_KEPT:
            self._gone.popitem(last=False)

    def _is_unasked(self) -> bool:
        with self._lock:
            return self._closed.is_set() or self._clock() - self._asked_at > _IDLE_S


def _version(pod: Object | None) -> Any:
    return pod["metadata"].get("resourceVersion") if pod is not None else None
