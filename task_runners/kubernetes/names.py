"""What a pod is called and labelled, so that it is found again and that people recognise it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from task_runners.ownership import INSTALLATION
from task_runners.spec import TaskSpec

__all__ = ["OWNED", "PREFIX", "label_value", "labels_of", "name_of", "owned_selector"]

PREFIX = "mainstem.io/"
OWNED = f"{PREFIX}taskrun-id"
_ATTEMPT = "mainstem.io/taskrun-attempt"
_PREFIXES = ("mainstem.io", "kestra.io")
_NAME_CHARS, _LABEL_CHARS, _SUFFIX_CHARS = 63, 63, 8
_NAMED_BY = ("namespace", "flow-id", "task-id")


def name_of(spec: TaskSpec) -> str:
    """Return the name of the pod of this attempt: readable, at most 63 characters, the same each time.

    So two pods of one attempt cannot exist at once, whoever of an installation starts it again.
    """
    labels = _short(spec.labels)
    words = "-".join(labels[key] for key in _NAMED_BY if labels.get(key)) or "task"
    whose = [spec.task_run_id, str(spec.attempt), *filter(None, [labels.get(INSTALLATION)])]
    digest = hashlib.sha256("/".join(whose).encode()).hexdigest()[:_SUFFIX_CHARS]
    slug = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[: _NAME_CHARS - _SUFFIX_CHARS - 1].strip("-")
    return f"{slug or 'task'}-{digest}"


def labels_of(spec: TaskSpec, given: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of the pod: what the flow gave, then ours, which win."""
    own = _short(spec.labels) | {"taskrun-id": spec.task_run_id, "taskrun-attempt": str(spec.attempt)}
    ours = {f"{prefix}/{key}": label_value(value) for prefix in _PREFIXES for key, value in own.items()}
    theirs = {key: label_value(str(value)) for key, value in given.items() if key != f"{PREFIX}{INSTALLATION}"}
    return theirs | ours


def owned_selector(labels: Mapping[str, str] | None = None) -> str:
    """Return the selector of all pods of this product, or of those with `labels` (names without a prefix)."""
    if not labels:
        return OWNED
    return ",".join(f"mainstem.io/{key}={label_value(value)}" for key, value in _short(labels).items())


def label_value(value: str) -> str:
    """Return `value` as a label may be: at most 63 letters, digits, `-`, `_`, `.`, a letter or digit at both ends."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", value)[:_LABEL_CHARS].strip("-._")


def _short(labels: Mapping[str, str]) -> dict[str, str]:
    return {key.rpartition("/")[2]: value for key, value in labels.items()}
