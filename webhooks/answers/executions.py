"""Schemas of executions and what they leave behind."""

from __future__ import annotations

from typing import Final

from runner.states import State
from webhooks.schemas import (
    ANYTHING,
    DURATION,
    FLAG,
    MAP,
    NUMBER,
    TEXT,
    TIME,
    WHOLE,
    Shape,
    extended,
    listed,
    mapped,
    nullable,
    optional,
    page,
    record,
    word,
)

STATE_NAME: Final = word(*(state.value for state in State))
LABELS: Final = listed(Shape("Label", record(key=TEXT, value=TEXT)))
STATE: Final = Shape(
    "State",
    record(
        current=STATE_NAME,
        histories=listed(record(state=STATE_NAME, date=TIME)),
        startDate=TIME,
        endDate=nullable(TIME),
        duration=DURATION,
    ),
)
TRIGGER: Final = Shape("ExecutionTrigger", record(id=TEXT, type=TEXT, variables=MAP))
ATTEMPT: Final = Shape(
    "TaskRunAttempt",
    record(
        state=STATE,
        workerId=nullable(TEXT),
        exitCode=nullable(WHOLE),
        failureReason=nullable(TEXT),
        logFile=nullable(TEXT),
        message=nullable(TEXT),
    ),
)
TASK_RUN: Final = Shape(
    "TaskRun",
    record(
        tenantId=TEXT,
        id=TEXT,
        executionId=TEXT,
        namespace=TEXT,
        flowId=TEXT,
        taskId=TEXT,
        parentTaskRunId=nullable(TEXT),
        value=nullable(TEXT),
        iteration=nullable(WHOLE),
        branch=nullable(TEXT),
        state=STATE,
        attempts=listed(ATTEMPT),
        outputs=MAP,
        dynamic=FLAG,
        runner=nullable(TEXT),
        error=nullable(TEXT),
    ),
)
LIGHT_EXECUTION: Final = Shape(
    "LightExecution",
    record(
        tenantId=TEXT,
        id=TEXT,
        namespace=TEXT,
        flowId=TEXT,
        flowRevision=WHOLE,
        state=STATE,
        originalId=TEXT,
        deleted=FLAG,
        kind=TEXT,
        inputs=MAP,
        outputs=MAP,
        labels=LABELS,
        variables=MAP,
        parentId=nullable(TEXT),
        trigger=nullable(TRIGGER),
        scheduleDate=nullable(TIME),
        metadata=record(originalCreatedDate=TIME, attemptNumber=WHOLE),
        breakpoints=listed(record(id=TEXT)),
        environment=nullable(TEXT),
        commit=nullable(TEXT),
        error=nullable(TEXT),
    ),
)
EXECUTION: Final = Shape("Execution", extended(LIGHT_EXECUTION, taskRunList=listed(TASK_RUN), url=optional(TEXT)))
EXECUTIONS: Final = page(LIGHT_EXECUTION)
LATEST: Final = listed(record(id=TEXT, namespace=TEXT, flowId=TEXT, startDate=TIME, status=STATE_NAME))
STATUS: Final = Shape(
    "ExecutionStatus", record(executionId=TEXT, tenantId=TEXT, namespace=TEXT, flowId=TEXT, state=STATE)
)
WEBHOOK: Final = Shape(
    "WebhookAnswer",
    record(
        tenantId=TEXT,
        id=TEXT,
        namespace=TEXT,
        flowId=TEXT,
        flowRevision=WHOLE,
        trigger=nullable(TRIGGER),
        labels=LABELS,
        inputs=MAP,
        outputs=MAP,
        state=STATE,
        url=TEXT,
    ),
)
BULK: Final = Shape(
    "BulkAnswer", record(count=WHOLE, operationId=TEXT, totalItems=WHOLE, invalids=optional(listed(TEXT)))
)
COUNT: Final = Shape("Count", record(count=WHOLE))
EVALUATION: Final = Shape("Evaluation", record(result=nullable(TEXT), error=nullable(TEXT), stackTrace=nullable(TEXT)))
CHECKED_INPUTS: Final = Shape(
    "InputsValidation",
    record(
        id=TEXT,
        namespace=TEXT,
        inputs=listed(
            record(
                input=MAP,
                value=ANYTHING,
                enabled=FLAG,
                isDefault=FLAG,
                errors=listed(record(message=TEXT)),
            )
        ),
        checks=listed(record(message=TEXT, style=TEXT, behavior=TEXT)),
    ),
)
FILE_SIZE: Final = Shape("FileSize", record(size=WHOLE))
FILE_PREVIEW: Final = Shape(
    "FilePreview",
    record(
        extension=TEXT,
        type=word("TEXT", "LIST", "IMAGE", "MARKDOWN", "PDF"),
        content=ANYTHING,
        maxLine=WHOLE,
        truncated=FLAG,
    ),
)
AVERAGE: Final = Shape("AverageDuration", record(avgDurationMs=nullable(WHOLE), count=WHOLE))
LOG_LINE: Final = Shape(
    "LogEntry",
    record(
        tenantId=TEXT,
        namespace=TEXT,
        flowId=TEXT,
        executionId=nullable(TEXT),
        taskId=nullable(TEXT),
        taskRunId=nullable(TEXT),
        attemptNumber=nullable(WHOLE),
        triggerId=nullable(TEXT),
        timestamp=TIME,
        level=word("ERROR", "WARN", "INFO", "DEBUG", "TRACE"),
        message=TEXT,
    ),
)
LOG_PAGE: Final = Shape(
    "LogPage",
    record(
        results=listed(LOG_LINE),
        type=word("OFFSET", "CURSOR"),
        total=nullable(WHOLE),
        nextCursor=nullable(TEXT),
    ),
)
METRIC: Final = Shape(
    "Metric",
    record(
        tenantId=TEXT,
        namespace=TEXT,
        flowId=TEXT,
        executionId=TEXT,
        taskId=TEXT,
        taskRunId=TEXT,
        type=word("counter", "timer", "gauge"),
        name=TEXT,
        value=NUMBER,
        timestamp=TIME,
        tags=mapped(TEXT),
    ),
)
AGGREGATES: Final = Shape(
    "MetricAggregations",
    record(
        groupBy=word("minute", "hour", "day", "week"),
        aggregations=listed(record(name=TEXT, value=nullable(NUMBER), date=TIME)),
    ),
)
TASK_OUTPUTS: Final = listed(
    record(taskId=TEXT, taskRunId=TEXT, value=nullable(TEXT), iteration=nullable(WHOLE), inline=MAP)
)
