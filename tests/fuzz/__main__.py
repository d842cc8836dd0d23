"""`python -m tests.fuzz loader|expressions`: look for inputs that break an invariant, hang or crash.

With atheris installed (`pip install --group fuzz`) the inputs follow what they reach in our code; `--mutator` and
machines without it use the seeded mutator of the tests. What breaks is written to the corpus, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import sys
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fuzz.targets import Target

_TIMEOUT_S = 60  # of the watchdog for what never returns, by the clock; slowness is measured in CPU time


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=["loader", "expressions"])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mutator", action="store_true", help="the seeded mutator even where atheris is installed")
    arguments = parser.parse_args()
    if importlib.util.find_spec("atheris") is None or arguments.mutator:
        sys.exit(_mutated(_target(arguments.target), arguments.inputs, arguments.seed))
    _guided(arguments.target, arguments.inputs, arguments.seed)


def _target(name: str) -> Target:
    from tests.fuzz.targets import TARGETS

    return TARGETS[name]


def _mutated(target: Target, count: int, seed: int) -> int:
    from tests.fuzz.mutator import Mutator

    mutator = Mutator(target, seed)
    broken: dict[str, str] = {}
    slowest = 0.0
    started = time.monotonic()
    for _ in range(count):
        data = mutator.next()
        before = time.thread_time()
        if _got_far(target, broken, data):
            mutator.keep(data)
        slowest = max(slowest, time.thread_time() - before)
    seconds = time.monotonic() - started
    print(f"{target.name}: {count} inputs in {seconds:.0f} s, the slowest {slowest:.3f} s, {len(broken)} kinds broken")
    return 1 if broken else 0


def _got_far(target: Target, broken: dict[str, str], data: bytes) -> bool:
    """Check one input; the first that breaks at a place is written to the corpus."""
    try:
        return target.timed(data)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{type(error).__name__} {last.filename}:{last.lineno}"
        if place not in broken:
            broken[place] = keep(target, data)
            print(f"{broken[place]}: {place}: {str(error)[:300]}", flush=True)
        return False


def keep(target: Target, data: bytes) -> str:
    """Write an input to the corpus and return its file name."""
    from tests.fuzz.targets import CORPUS

    name = hashlib.sha256(data).hexdigest()[:12]
    (CORPUS / target.name / name).write_bytes(data)
    return name


def _guided(name: str, count: int, seed: int) -> None:
    """Hand the target to atheris, which ends the process itself."""
    import tempfile
    from pathlib import Path

    import atheris

    with atheris.instrument_imports(include=["runner"]):
        target = _target(name)
    found = Path(tempfile.mkdtemp(prefix="mainstem-fuzz-"))
    for number, text in enumerate(target.seeds):
        (found / f"seed{number}").write_text(text)
    words = found.with_suffix(".dict")
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
    options = [f"-runs={count}", f"-seed={seed}", f"-max_len={target.size}", f"-timeout={_TIMEOUT_S}",
               f"-dict={words}", "-rss_limit_mb=1024", f"-artifact_prefix={found}/", "-print_final_stats=1",
               str(found)]  # fmt: skip
    atheris.Setup([sys.argv[0], *options], _kept(target))
    atheris.Fuzz()


def _kept(target: Target) -> Callable[[bytes], None]:
    def check(data: bytes) -> None:
        try:
            target.timed(data)
        except Exception:  # whatever it is, it is a finding and raised again
            keep(target, data)
            raise

    return check


def _escaped(word: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word.encode())


if __name__ == "__main__":
    main()
