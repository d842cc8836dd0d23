"""Changes of the settings in the audit log: which ones, never what they are."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import orjson

from runner.settings import Settings
from runner.store import Session

if TYPE_CHECKING:
    from runner.access import AccessControl
    from runner.secrets.encryption import Encryption
    from runner.store import Store

ACTION: Final = "settings.change"
_DIGITS: Final = 16


def note_settings(
    store: Store, access: AccessControl, settings: Settings, encryption: Encryption, role: str
) -> list[str]:
    """Write which settings differ from those that a process of this role had at its last start; return their names."""
    # Made with a key, the fingerprints tell nothing to who only has the log.
    now = _fingerprints(settings, encryption.derived("settings"))

    def write(db: Session) -> list[str]:
        rows = db.audit.list(1, action=ACTION, target=role)
        before = rows[0].detail.get("fingerprints", {}) if rows else {}
        changed = sorted(name for name in {*now, *before} if now.get(name) != before.get(name))
        if changed:
            # Of the first start everything would be new.
            shown = changed if rows else []
            db.audit.add(access.entry("system", ACTION, role, changed=shown, fingerprints=dict(now)))
        return changed if rows else []

    return store.write(write)


def _fingerprints(settings: Settings, key: bytes) -> Mapping[str, str]:
    values = settings.model_dump(mode="json", by_alias=True)
    return {
        name: hmac.new(key, orjson.dumps(value, option=orjson.OPT_SORT_KEYS), "sha256").hexdigest()[:_DIGITS]
        for name, value in values.items()
    }
