"""The part that keeps environments at their commits, as a process of its own: what it holds, and what it uses.

`python -m bench.sync_process HOME URL` follows a repository once for each line that it reads, and answers each with a
line of JSON. HOME holds a migrated store. `mainstem sync-agent` runs the same, on PostgreSQL and with a broker.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from runner.flows.catalogue import Catalogue
from runner.settings import EnvironmentSettings, RepositorySettings, Settings
from runner.store import Store
from sync.service import SyncService

_NAME = "team"


def main() -> None:
    """Follow the repository that the command line names."""
    home, url = Path(sys.argv[1]), sys.argv[2]
    settings = Settings(
        home=home,
        repositories=(RepositorySettings(name=_NAME, url=url),),
        environments=(EnvironmentSettings(name="production", repository=_NAME),),
    )
    store = Store.open(settings.database_url)
    service = SyncService(store, Catalogue(store), settings)
    service.ensure_declared()
    print(json.dumps(_stand()), flush=True)
    for _ in sys.stdin:
        begun, used = time.perf_counter(), time.process_time()
        [result] = service.reconcile_repository(_NAME, actor="bench")
        taken = {"s": time.perf_counter() - begun, "cpu_s": time.process_time() - used}
        print(json.dumps({"outcome": result.outcome.value, **taken, **_stand()}), flush=True)
    service.close()
    store.close()


def _stand() -> dict[str, Any]:
    """Return the resident memory of this process now and at its highest, in MB."""
    lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    sizes = {fields[0]: int(fields[1]) / 1024 for fields in lines if fields[0] in {"VmRSS:", "VmHWM:"}}
    return {"resident_mb": sizes["VmRSS:"], "peak_mb": sizes["VmHWM:"]}


if __name__ == "__main__":
    main()
