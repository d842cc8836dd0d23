"""`python -m tests.conformance --suite DIR`: runs a folder of cases through the real engine and counts what holds."""

from __future__ import annotations

import argparse
import fnmatch
import sys
from pathlib import Path

from tests.conformance import cases, expressions, report
from tests.conformance.cases import Case
from tests.conformance.lanes import run_all
from tests.conformance.result import CaseResult

_JOBS = 4  # cases mostly wait
_PATIENCE_S = 2.0  # logs and outputs may come a moment after the end


def main(arguments: list[str] | None = None) -> int:
    """Run the cases; return 1 when a counted one failed, 2 when there is nothing to run, else 0."""
    options = _parser().parse_args(arguments)
    results: list[CaseResult] = []

    def done(result: CaseResult) -> None:
        results.append(result)
        if result.outcome == "failed":
            print(f"FAILED {result.area}/{result.name}: {_one_line(result.detail)}", flush=True)
        elif options.verbose:
            print(f"{result.outcome} {result.area}/{result.name} ({result.seconds:.1f} s): {_one_line(result.detail)}")

    for result in expressions.run(options.suite, lambda name: _is_wanted(options, name, expressions.AREA)):
        done(result)
    chosen = [case for case in cases.load(options.suite) if _is_wanted(options, case.id, case.area)]
    if not results and not chosen:
        print(f"no case in {options.suite}", file=sys.stderr)
        return 2
    for apart in filter(None, map(_apart, chosen)):
        done(apart)
    counted = [case for case in chosen if _apart(case) is None]
    run_all(options.suite, counted, options.jobs, done, patience_s=options.patience)
    if options.report:
        report.write(options.report, sorted(results, key=lambda result: (result.area, result.name)))
    print("\n".join(["", *report.lines_of(results)]))
    return 1 if any(result.outcome == "failed" for result in results) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--suite", type=Path, required=True, help="folder with executions.json and expressions.json")
    parser.add_argument("--report", type=Path, help="file for the counts and results as JSON")
    parser.add_argument("--only", help="part of the names of the cases to run, or a pattern with * and ?")
    parser.add_argument("--area", help="the area of the cases to run")
    parser.add_argument("--jobs", type=int, default=_JOBS, help=f"how many cases run at once ({_JOBS})")
    parser.add_argument(
        "--patience", type=float, default=_PATIENCE_S, help=f"seconds until an end must be as expected ({_PATIENCE_S})"
    )
    parser.add_argument("--verbose", action="store_true", help="print a line for every case")
    return parser


def _is_wanted(options: argparse.Namespace, name: str, area: str) -> bool:
    if options.area and options.area != area:
        return False
    return options.only is None or options.only in name or fnmatch.fnmatch(name, options.only)


def _apart(case: Case) -> CaseResult | None:
    """Return the result of a case that is not run: it is only told, or this machine lacks something."""
    if case["told"]:
        return CaseResult(case.id, case.area, "told", str(case["told"]))
    reason = cases.skip_reason(case)
    return CaseResult(case.id, case.area, "skipped", reason) if reason else None


def _one_line(text: str) -> str:
    return " ".join(text.split())[:600]


if __name__ == "__main__":
    sys.exit(main())
