"""Schemas of flows and what is said about them."""

from __future__ import annotations

from typing import Final

from webhooks.answers.executions import LABELS, STATE_NAME
from webhooks.schemas import (
    ANYTHING,
    FLAG,
    MAP,
    TEXT,
    TIME,
    WHOLE,
    Shape,
    listed,
    mapped,
    nullable,
    opened,
    optional,
    page,
    record,
    word,
)

NAME: Final = Shape("FlowName", record(namespace=TEXT, id=TEXT))
TASK: Final = Shape("Task", opened(record(id=TEXT, type=TEXT)))
TRIGGER: Final = Shape("Trigger", opened(record(id=TEXT, type=nullable(TEXT))))
PROBLEM: Final = Shape(
    "FlowProblem",
    record(
        file=nullable(TEXT),
        line=nullable(WHOLE),
        column=nullable(WHOLE),
        code=TEXT,
        severity=word("error", "warning", "info"),
        message=TEXT,
        hint=nullable(TEXT),
    ),
)
_IDENTITY: Final = {"id": TEXT, "namespace": TEXT, "disabled": FLAG, "draft": FLAG, "deleted": FLAG}
_RELATIONS: Final = ("SEQUENTIAL", "CHOICE", "ERROR", "FINALLY", "AFTER_EXECUTION", "PARALLEL", "DYNAMIC")
_BLOCKS: Final = ("inputs", "outputs", "tasks", "errors", "finally", "afterExecution")
FLOW: Final = Shape(
    "Flow",
    opened(
        record(
            {
                **_IDENTITY,
                "tenantId": TEXT,
                "revision": WHOLE,
                "updated": TIME,
                "environment": nullable(TEXT),
                "commit": nullable(TEXT),
                "path": nullable(TEXT),
                "labels": LABELS,
                "tasks": listed(TASK),
                "description": optional(nullable(TEXT)),
                "triggers": optional(listed(TRIGGER)),
                "inputs": optional(listed(MAP)),
                "outputs": optional(listed(MAP)),
                "variables": optional(MAP),
                "errors": optional(listed(TASK)),
                "finally": optional(listed(TASK)),
                "afterExecution": optional(listed(TASK)),
                "source": optional(TEXT),
                "exception": optional(TEXT),
            }
        )
    ),
)
"""A flow as it was written, with every other property it has beside these; `source` only where it is asked for."""
FLOWS: Final = page(FLOW)
PULL_REQUEST: Final = Shape("PullRequest", record(url=nullable(TEXT), number=nullable(WHOLE), branch=TEXT))
PROPOSED: Final = Shape("Proposed", opened(record(draft=FLAG, pullRequest=PULL_REQUEST)))
"""What would be there, with the change request that proposes it; no number and url where only a branch is pushed."""
FLOW_TO_RUN: Final = Shape(
    "FlowForExecution",
    record(
        {
            **_IDENTITY,
            "revision": WHOLE,
            "description": nullable(TEXT),
            "labels": LABELS,
            "triggers": listed(record(id=TEXT, type=TEXT, disabled=FLAG)),
            **dict.fromkeys(_BLOCKS, listed(MAP)),
        }
    ),
)
VERDICT: Final = Shape(
    "Validation",
    record(
        index=WHOLE,
        flow=nullable(TEXT),
        namespace=nullable(TEXT),
        constraints=nullable(TEXT),
        outdated=FLAG,
        deprecationPaths=listed(TEXT),
        warnings=listed(TEXT),
        infos=listed(TEXT),
        problems=listed(PROBLEM),
    ),
)
_REVISION: Final = record(revision=WHOLE, commit=nullable(TEXT))
DIFFERENCE: Final = Shape(
    "FlowDifference",
    record(
        {
            "namespace": TEXT,
            "id": TEXT,
            "from": _REVISION,
            "to": _REVISION,
            "changes": listed(
                record(
                    kind=word("added", "removed", "changed", "moved"), path=TEXT, old=ANYTHING, new=ANYTHING, text=TEXT
                )
            ),
        }
    ),
)
DEPENDENCIES: Final = Shape(
    "FlowDependencies",
    record(
        nodes=listed(record(uid=TEXT, namespace=TEXT, id=TEXT)),
        edges=listed(record(source=TEXT, target=TEXT, relation=word("FLOW_TASK", "FLOW_TRIGGER"))),
    ),
)
_DRAWN: Final = record(id=TEXT, type=TEXT, disabled=FLAG, description=nullable(TEXT))
GRAPH: Final = Shape(
    "FlowGraph",
    record(
        nodes=listed(
            record(
                uid=TEXT,
                type=TEXT,
                branchType=nullable(word("ERROR", "FINALLY", "AFTER_EXECUTION")),
                task=optional(_DRAWN),
                triggerDeclaration=optional(_DRAWN),
                taskRun=optional(record(id=TEXT, state=STATE_NAME, value=nullable(TEXT), startDate=nullable(TIME))),
                states=optional(mapped(WHOLE)),
            )
        ),
        edges=listed(
            record(source=TEXT, target=TEXT, relation=record(relationType=word(*_RELATIONS), value=nullable(TEXT)))
        ),
        clusters=listed(
            record(cluster=record(uid=TEXT, type=TEXT), nodes=listed(TEXT), parents=listed(TEXT), start=TEXT, end=TEXT)
        ),
        flowables=listed(TEXT),
    ),
)
FOUND_IN_SOURCE: Final = Shape(
    "FlowMatches",
    record(
        namespace=TEXT,
        id=TEXT,
        editable=FLAG,
        matches=listed(record(line=WHOLE, column=WHOLE, snippet=TEXT)),
    ),
)
DEPRECATED: Final = listed(
    Shape(
        "FlowWithDeprecatedTasks",
        record(
            namespace=TEXT,
            flowId=TEXT,
            revision=WHOLE,
            deprecatedTasks=listed(record(taskId=TEXT, taskType=TEXT, replacement=TEXT)),
        ),
    )
)
_CATEGORIES: Final = (
    "taskOutputs",
    "executionContext",
    "inputs",
    "variables",
    "secrets",
    "kvPairs",
    "namespaceFiles",
    "filters",
    "functions",
    "appContext",
)
EXPRESSIONS: Final = Shape("ExpressionContext", record(categories=record(dict.fromkeys(_CATEGORIES, listed(TEXT)))))
CONCURRENCY: Final = page(record(tenantId=TEXT, namespace=TEXT, flowId=TEXT, running=WHOLE))
