"""Variables in settings: credentials that are written `${NAME}` are taken from the environment."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic.alias_generators import to_camel

from runner.errors import InvalidError
from runner.setting_faults import source_of

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}\Z")
_APPS: Final = ("githubApp", "github_app")
_APP_KEYS: Final = frozenset({"privateKey", "private_key"})
_CREDENTIALS: Final = (
    "username",
    "password",
    "ssh_key",
    "webhook_secret",
    "previous_webhook_secret",
    "api_token",
)
_CREDENTIAL_KEYS: Final = frozenset(_CREDENTIALS) | {to_camel(name) for name in _CREDENTIALS}


@dataclass(frozen=True, slots=True)
class Variables:
    """The variables that settings may name; `file` is where settings stand that no variable gives.

    `unset` gets an error `settings.invalid` for each that is named and not set.
    """

    environ: Mapping[str, str]
    file: Path
    unset: list[InvalidError] = field(default_factory=list)

    def filled(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return settings with their credentials: those of repositories, and all options of the storage.

        A key whose variable is not set is left out, and told of in `unset`.
        """
        found = dict(values)
        declared = values.get("repositories")
        if isinstance(declared, list | tuple):
            found["repositories"] = [
                self._repository(f"repositories[{index}]", each) if isinstance(each, dict) else each
                for index, each in enumerate(declared)
            ]
        options = values.get("storage_options")
        if isinstance(options, dict):
            found["storage_options"] = self._part("storageOptions", options, options.keys())
        return found

    def _repository(self, place: str, given: dict[str, Any]) -> dict[str, Any]:
        found = self._part(place, given, _CREDENTIAL_KEYS)
        for name in (name for name in _APPS if isinstance(given.get(name), dict)):
            app = self._part(f"{place}.{name}", given[name], _APP_KEYS)
            if app.keys() == given[name].keys():
                found[name] = app
            else:  # an app without its key is none
                del found[name]
        return found

    def _part(self, place: str, given: dict[str, Any], keys: Collection[str]) -> dict[str, Any]:
        found = {}
        for key, text in given.items():
            named = _VARIABLE.match(text) if key in keys and isinstance(text, str) else None
            if named is None:
                found[key] = text
            elif named[1] in self.environ:
                found[key] = self.environ[named[1]] or None
            else:
                self.unset.append(self._error(f"{place}.{key}", text))
        return found

    def _error(self, place: str, text: str) -> InvalidError:
        source = source_of(place.partition("[")[0].partition(".")[0], self.file, self.environ)
        message = f"{source}: {place} names {text}, which is not set"
        return InvalidError("settings.invalid", message, hint="set the variable, or leave the key out")
