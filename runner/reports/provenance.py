"""Where the files of a run come from, as an in-toto statement with SLSA provenance. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from runner import __version__
from runner.reports.details import RunDetails
from runner.reports.values import Mask, clean, without_secrets

_STATEMENT: Final = "https://in-toto.io/Statement/v1"
_PREDICATE: Final = "https://slsa.dev/provenance/v1"
_BUILD: Final = "urn:mainstem:flow:v1"
_BUILDER: Final = f"urn:mainstem:{__version__}"


def provenance(details: RunDetails, mask: Mask) -> dict[str, Any] | None:
    """Return the statement about the files that a good run made, masked; None when it made none that were read.

    It says which files (SHA-256), of which flow at which commit, with which inputs. It is not signed: whoever trusts
    the branch that it lies on trusts it.
    """
    row, execution = details.row, details.execution
    subject = [
        {"name": f"{each.task}/{clean(each.name, mask)}", "digest": {"sha256": each.sha256}}
        for each in details.artifacts
        if each.sha256 is not None and each.is_own
    ]
    if not subject or not row.is_good:
        return None
    return {
        "_type": _STATEMENT,
        "subject": subject,
        "predicateType": _PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": _BUILD,
                "externalParameters": {
                    "namespace": row.namespace,
                    "flow": row.flow,
                    "revision": row.revision,
                    "inputs": without_secrets(execution.inputs, details.secret_inputs, mask),
                },
                "resolvedDependencies": _dependencies(details),
            },
            "runDetails": {
                "builder": {"id": _BUILDER},
                "metadata": {
                    "invocationId": row.id,
                    "startedOn": _time(row.start or execution.created_at),
                    "finishedOn": _time(row.end),
                },
            },
        },
    }


def _dependencies(details: RunDetails) -> list[dict[str, Any]]:
    origin, commit = details.origin, details.row.commit
    if origin is None or commit is None:
        return []
    return [{"uri": f"git+{origin.url}@{origin.ref}", "digest": {"gitCommit": commit}}]


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
