"""Writes the pages of settings, of servers and of repositories: `python docs/generate_settings.py`."""  # noqa: INP001 - a program, no package

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

import runner.rules
import runner.settings
from runner.flows.schema.texts import of_fields
from runner.rules import RepositoryRules
from runner.settings import Settings

PAGE = Path(__file__).parent / "reference" / "settings.md"
REPOSITORY_PAGE = PAGE.with_name("repository.md")

_INTRODUCTION = """# Settings

Each of these overrules the one before: the defaults below, a file, the environment, options of the command line. The
file is `mainstem.yaml` in the current folder, or what `MAINSTEM_SETTINGS` or `--settings` names. An unknown name in it
is an error, `settings.invalid`.

```yaml
# mainstem.yaml
url: https://flows.example.org
workers: 16
reports:
  retentionDays: 90
```

A variable whose text begins with `{` or `[` is read as YAML: `MAINSTEM_REPORTS={retentionDays: 90}`.
"""

_OTHERS = """
## Other variables

| variable | meaning |
|---|---|
| `MAINSTEM_SETTINGS` | the settings file |
| `MAINSTEM_URL`, `MAINSTEM_TOKEN` | the server that the command line talks to, and the token for it |
| `SECRET_<KEY>` | a secret of all namespaces in base64, for `secret('KEY')` |
| `ENV_<NAME>`, `KESTRA_<NAME>` | what expressions find as `envs.name` |

`secrets.yaml` in the home holds secrets by namespace: a map of namespaces, each a map of keys and texts. Other users
must not be able to read it. Secrets that are set while a server runs lie in its store: `mainstem secret set`.
"""


_REPOSITORY = """# Settings of a repository

`.mainstem.yaml` at the root of a repository says where things stand in it, and what it forbids itself beside what the
operator's [settings](settings.md) forbid. It never allows more than they do. What counts when, and what a change
request that edits it gains, is told in
[repositories and environments](../environments.md#what-a-repository-says-of-itself).

```yaml
# .mainstem.yaml
flows: pipelines
files: data
namespaces: [company.team]
policies:
  - tasks: [core.*, scripts.python.*]
    runners: [docker]
    images: [ghcr.io/company/*]
checks:
  required: [ci/build]
reports:
  retentionDays: 14
```

An unknown key keeps the commit from being activated, `repository.settings.invalid`, with its line and the nearest name.
`mainstem schema --repository` prints the JSON Schema for editors.
"""


def repository_page() -> str:
    """Return the whole page of `.mainstem.yaml`."""
    texts = of_fields(runner.rules)
    parts = [_REPOSITORY, "\n## Keys\n", _table(RepositoryRules, texts, variable=False)]
    for name, field in RepositoryRules.model_fields.items():
        part = _part(field)
        if part is not None:
            title = f"`{name}`, a list" if _is_list(field) else f"`{name}`"
            parts += [f"\n## {title}\n\n{inspect.getdoc(part)}\n", _table(part, texts, variable=False)]
    return "".join(parts)


def page() -> str:
    """Return the whole page."""
    texts = of_fields(runner.settings)
    parts = [_INTRODUCTION, "\n## Settings of a server\n", _table(Settings, texts, variable=True)]
    return "".join([*parts, *_sections(Settings, texts, ""), _OTHERS])


def _sections(model: type[BaseModel], texts: dict[tuple[str, str], str], above: str) -> Iterator[str]:
    """Yield a section for each part of a model, and for the parts of that; `above` is what their names begin with."""
    for name, field in model.model_fields.items():
        part = _part(field)
        if part is not None:
            key = f"{above}{field.alias or name}"
            title = f"`{key}`, a list" if _is_list(field) else f"`{key}`"
            yield f"\n## {title}\n\n{inspect.getdoc(part)}\n"
            yield _table(part, texts, variable=False)
            yield from _sections(part, texts, f"{key}.")


def _table(model: type[BaseModel], texts: dict[tuple[str, str], str], *, variable: bool) -> str:
    head = ["name", *(["variable"] if variable else []), "default", "meaning"]
    rows = [
        [
            f"`{field.alias or name}`",
            *([f"`MAINSTEM_{name.upper()}`"] if variable else []),
            _default(field),
            texts[model.__name__, name],
        ]
        for name, field in model.model_fields.items()
    ]
    return "\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in [head, ["---"] * len(head), *rows])


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "see below"
    if value is None or value in ((), {}):
        return ""
    return f"`{value if isinstance(value, str | Path) else json.dumps(value)}`"


def _part(field: FieldInfo) -> type[BaseModel] | None:
    candidates: tuple[Any, ...] = (field.annotation, *get_args(field.annotation))
    return next((each for each in candidates if isinstance(each, type) and issubclass(each, BaseModel)), None)


def _is_list(field: FieldInfo) -> bool:
    return field.get_default(call_default_factory=True) == ()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    REPOSITORY_PAGE.write_text(repository_page(), encoding="utf-8")
