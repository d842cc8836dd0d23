"""Schemas of triggers, namespaces, keys, the catalogue, and of what the server itself is."""

from __future__ import annotations

from typing import Final

from webhooks.answers.flows import PULL_REQUEST, TRIGGER
from webhooks.schemas import (
    ANYTHING,
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

TRIGGER_NAME: Final = Shape("TriggerName", record(namespace=TEXT, flowId=TEXT, triggerId=TEXT))
TRIGGER_STATE: Final = Shape(
    "TriggerState",
    record(
        tenantId=TEXT,
        namespace=TEXT,
        flowId=TEXT,
        triggerId=TEXT,
        kind=TEXT,
        disabled=FLAG,
        locked=FLAG,
        updatedAt=nullable(TIME),
        evaluatedAt=nullable(TIME),
        nextEvaluationDate=nullable(TIME),
        nextExecutionDate=nullable(TIME),
        lastTriggeredDate=nullable(TIME),
        date=nullable(TIME),
        executionId=nullable(TEXT),
        backfill=nullable(
            Shape(
                "Backfill",
                record(
                    id=TEXT,
                    start=TIME,
                    end=TIME,
                    currentDate=TIME,
                    previousNextExecutionDate=nullable(TIME),
                    paused=FLAG,
                    inputs=MAP,
                    labels=MAP,
                ),
            )
        ),
        stopAfter=listed(TEXT),
        workerId=nullable(TEXT),
    ),
)
TRIGGERS: Final = page(record(trigger=TRIGGER, state=TRIGGER_STATE))
KEY: Final = Shape(
    "KeyValueEntry",
    record(
        tenantId=TEXT,
        namespace=TEXT,
        key=TEXT,
        revision=WHOLE,
        description=nullable(TEXT),
        creationDate=TIME,
        updateDate=TIME,
        expirationDate=nullable(TIME),
    ),
)
VALUE: Final = Shape(
    "KeyValue",
    record(
        type=word("STRING", "NUMBER", "BOOLEAN", "DATETIME", "DATE", "DURATION", "JSON"),
        value=ANYTHING,
        revision=WHOLE,
        updated=TIME,
    ),
)
KEYS: Final = Shape("Keys", record(keys=listed(TEXT)))
NAMESPACE: Final = Shape(
    "Namespace",
    record(
        id=TEXT,
        deleted=FLAG,
        description=nullable(TEXT),
        variables=MAP,
        pluginDefaults=listed(MAP),
        file=nullable(TEXT),
    ),
)
_SAID: Final = {"key": TEXT, "description": nullable(TEXT), "tags": listed(MAP)}
SECRET: Final = Shape("SecretName", record(**_SAID, namespace=TEXT, readOnly=FLAG))
SECRET_META: Final = Shape("SecretMeta", record(**_SAID))
FILE: Final = Shape(
    "NamespaceFile",
    record(
        type=word("File", "Directory"),
        fileName=TEXT,
        size=WHOLE,
        lastModifiedTime=WHOLE,
        creationTime=WHOLE,
        metadata=optional(MAP),
    ),
)
_LIMIT: Final = nullable(record(remaining=WHOLE, of=nullable(WHOLE), resetsAt=nullable(TIME), seenAt=TIME, isLow=FLAG))
REPOSITORY: Final = Shape(
    "Repository",
    record(
        name=TEXT,
        url=TEXT,
        kind=TEXT,
        intervalSeconds=WHOLE,
        hasCredentials=FLAG,
        hasWebhookSecret=FLAG,
        forgeLimit=_LIMIT,
    ),
)
_SIGNATURE: Final = nullable(
    record(
        state=TEXT,
        kind=nullable(TEXT),
        signer=nullable(TEXT),
        fingerprint=nullable(TEXT),
        commit=TEXT,
        commits=WHOLE,
        detail=nullable(TEXT),
    )
)
ENVIRONMENT: Final = Shape(
    "Environment",
    record(
        name=TEXT,
        repository=TEXT,
        ref=TEXT,
        following=TEXT,
        path=TEXT,
        namespaces=listed(TEXT),
        writes=TEXT,
        rejectInvalid=FLAG,
        onInvalid=word("block", "quarantine"),
        reports=ANYTHING,
        active=nullable(TEXT),
        held=nullable(TEXT),
        state=TEXT,
        message=nullable(TEXT),
        checkedAt=nullable(TIME),
        changedAt=nullable(TIME),
        previewOf=nullable(TEXT),
        changeRequest=nullable(WHOLE),
        expiresAt=nullable(TIME),
        pin=nullable(
            record(
                commit=TEXT, actor=TEXT, reason=TEXT, at=TIME, until=nullable(TIME), unproposed=optional(nullable(TEXT))
            )
        ),
        settings=nullable(MAP),
        signature=_SIGNATURE,
        forgeLimit=_LIMIT,
    ),
)
REVISION: Final = Shape(
    "Revision",
    record(
        id=WHOLE,
        environment=TEXT,
        commit=TEXT,
        tree=nullable(TEXT),
        previous=nullable(TEXT),
        action=TEXT,
        reason=nullable(TEXT),
        result=TEXT,
        at=TIME,
        author=nullable(TEXT),
        actor=nullable(TEXT),
        message=nullable(TEXT),
        seconds=nullable(NUMBER),
        changes=listed(ANYTHING),
        problems=listed(ANYTHING),
        signature=_SIGNATURE,
        delivery=nullable(TEXT),
        sender=nullable(TEXT),
        prior=nullable(TEXT),
        digest=nullable(TEXT),
    ),
)
PLAN: Final = Shape("Plan", MAP)
RECONCILED: Final = Shape(
    "Reconciled",
    record(
        environment=ENVIRONMENT,
        results=listed(MAP),
        pullRequest=optional(nullable(PULL_REQUEST)),
        unproposed=optional(TEXT),
    ),
)
"""Only a rollback that is to be proposed in git too has a pull request, or says why there is none."""
DELIVERY: Final = Shape(
    "Delivery",
    record(
        id=WHOLE,
        repository=TEXT,
        deliveryId=TEXT,
        event=TEXT,
        receivedAt=TIME,
        result=word("ACCEPTED", "IGNORED", "DUPLICATE", "REFUSED"),
        ref=nullable(TEXT),
        before=nullable(TEXT),
        after=nullable(TEXT),
        actor=nullable(TEXT),
        reason=nullable(TEXT),
    ),
)
WHOLE_DELIVERY: Final = Shape(
    "DeliveryWithBody", extended(DELIVERY, headers=MAP, body=TEXT, bodyEncoding=word("text", "base64"))
)
REPLAYED: Final = Shape("ReplayedDelivery", record(delivery=DELIVERY, results=listed(MAP)))
HOOK_CHECK: Final = Shape(
    "HookCheck", record(url=TEXT, status=nullable(WHOLE), problem=nullable(TEXT), advice=nullable(TEXT))
)
ROLE: Final = word("viewer", "operator", "developer", "admin")
TOKEN: Final = Shape(
    "Token",
    record(
        name=TEXT,
        prefix=TEXT,
        role=ROLE,
        namespaces=listed(TEXT),
        createdAt=TIME,
        expiresAt=nullable(TIME),
        lastUsedAt=nullable(TIME),
    ),
)
NEW_TOKEN: Final = Shape("NewToken", extended(TOKEN, fullToken=TEXT))
AUDIT_ENTRY: Final = Shape(
    "AuditEntry",
    record(id=WHOLE, at=TIME, actor=TEXT, action=TEXT, target=TEXT, result=TEXT, detail=MAP),
)
PLUGIN: Final = Shape(
    "Plugin",
    record(
        name=TEXT,
        title=TEXT,
        group=TEXT,
        version=TEXT,
        tasks=listed(TEXT),
        triggers=listed(TEXT),
        conditions=listed(TEXT),
    ),
)
DOCUMENTATION: Final = Shape("Documentation", record(markdown=TEXT, schema=MAP))
INPUT_TYPE: Final = Shape("InputType", record(type=TEXT, cls=TEXT))
FUNCTION: Final = Shape("Function", record(name=TEXT, arguments=listed(record(name=TEXT, defaultValue=nullable(TEXT)))))
ICON: Final = Shape("PluginIcon", record(name=TEXT, icon=TEXT, flowable=FLAG, monochrome=FLAG, hash=TEXT))
CONFIGURATION: Final = Shape(
    "Configuration",
    record(
        uuid=TEXT,
        product=TEXT,
        version=TEXT,
        edition=word("OSS"),
        url=TEXT,
        environment=mapped(TEXT),
        isCustomDashboardsEnabled=FLAG,
        isAnonymousUsageEnabled=FLAG,
        isBasicAuthInitialized=FLAG,
        systemNamespace=TEXT,
        hiddenLabelsPrefixes=listed(TEXT),
        preview=record(initial=WHOLE, max=WHOLE),
        tenant=TEXT,
    ),
)
HEALTH: Final = Shape("Health", record(status=word("UP", "DOWN"), missing=optional(listed(TEXT))))
