"""What it costs to render the templates that flows are full of."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from runner.expressions import Scope, compile_template

ROUNDS = 5
SECONDS = 0.2  # of each round
TEMPLATES = {
    "plain_text": "select * from orders",
    "path": "{{ inputs.day }}",
    "text_with_paths": "s3://{{ vars.bucket }}/{{ flow.namespace }}/{{ execution.id }}.csv",
    "bracket_path": "{{ outputs['load-orders'].vars.rows[0].id }}",
    "condition": "{{ inputs.count > 3 and inputs.day != 'sunday' }}",
    "fallback_and_date": "{{ trigger.date ?? execution.startDate | date('yyyy-MM-dd') }}",
    "filters": "{{ inputs.day | upper | replace({'MON': 'mon'}) | slugify }}",
    "json": "{{ outputs['load-orders'].vars | toJson }}",
    "jq": "{{ outputs['load-orders'].vars | jq('.rows[] | .id') | first }}",
    "loop_of_100": "{% for i in 1..100 %}{{ i }},{% endfor %}",
}
VARIABLES: dict[str, Any] = {
    "flow": {"id": "etl", "namespace": "company.team"},
    "execution": {"id": "4bTqB1", "startDate": datetime(2024, 1, 31, 10, tzinfo=UTC)},
    "inputs": {"day": "monday", "count": 5},
    "vars": {"bucket": "data"},
    "outputs": {"load-orders": {"vars": {"rows": [{"id": number, "name": "x"} for number in range(10)]}}},
}


def rendering(*, quick: bool = False) -> dict[str, Any]:
    """Microseconds of CPU for a render of each template when it is compiled, and to compile one; the best of rounds."""
    scope = Scope(VARIABLES)
    rounds = 1 if quick else ROUNDS
    figures = {f"{name}_us": _best(lambda text=text: compile_template(text).render(scope), rounds)
               for name, text in TEMPLATES.items()}  # fmt: skip
    fresh = iter(range(10**9))
    figures["first_use_us"] = _best(
        lambda: compile_template(f"{{{{ inputs.day | upper }}}} {next(fresh)}").render(scope), rounds
    )
    return {"bench": "rendering", **figures}


def _best(render: Any, rounds: int) -> float:
    return round(min(_microseconds(render) for _ in range(rounds)), 2)


def _microseconds(render: Any) -> float:
    render()
    count, started = 0, time.thread_time()
    while (taken := time.thread_time() - started) < SECONDS:
        for _ in range(100):
            render()
        count += 100
    return taken / count * 1e6
