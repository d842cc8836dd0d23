"""Writes the reference in `docs/reference/tasks.md` from the models: `python docs/generate_tasks.py`."""  # noqa: INP001 - a program, no package

from __future__ import annotations

import inspect
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from runner.durations import format_duration
from runner.flows.models import Task
from runner.flows.registry import TypeKind, find, types
from runner.tasks.http import HttpTask
from runner.tasks.languages import LANGUAGES, Language
from runner.tasks.script import ScriptTask

PAGE = Path(__file__).parent / "reference" / "tasks.md"

_MARK = "\n## Reference\n"
_BEGIN, _END = "<!-- languages: begin -->\n", "<!-- languages: end -->"

_SHARED = (ScriptTask, HttpTask)


def page() -> str:
    """Return the whole page: what was written by hand, with the table of languages in it, then the reference."""
    written = PAGE.read_text(encoding="utf-8").partition(_MARK)[0]
    before, _, rest = written.partition(_BEGIN)
    written = before + _BEGIN + _languages() + _END + rest.partition(_END)[2]
    return written + _MARK + "".join(_entry(name) for name in types(TypeKind.TASK))


def _languages() -> str:
    head = "| types | language | default image | a script is run as | proved against |\n|---|---|---|---|---|\n"
    return head + "".join(_language(language) for language in LANGUAGES.values())


def _language(language: Language) -> str:
    file = f"FILE{language.suffix}" if language.suffix else "SCRIPT"
    call = " ".join((*(language.command or language.interpreter), file))
    proof = "the language itself" if language.is_real else "a recording program"
    return f"| `scripts.{language.name}.*` | {language.title} | `{language.image}` | `{call}` | {proof} |\n"


def _entry(name: str) -> str:
    found = find(TypeKind.TASK, name)
    assert found is not None
    properties = [_property(field) for field in _own_fields(found)]
    family = next((f"\nAnd all of the {title}.\n" for base, title in _FAMILIES if issubclass(found, base)), "")
    listed = "".join(properties)
    return f"\n### {name}\n\n{inspect.getdoc(found)}\n" + (f"\n{listed}" if listed else "") + family


_FAMILIES = ((ScriptTask, "properties of script tasks"), (HttpTask, "properties of HTTP tasks"))


def _own_fields(cls: type[Any]) -> list[tuple[str, FieldInfo]]:
    shared = set(Task.model_fields)
    for base in _SHARED:
        if issubclass(cls, base):
            shared |= set(base.model_fields)
    return [(_name(name, field), field) for name, field in cls.model_fields.items() if name not in shared]


def _name(name: str, field: FieldInfo) -> str:
    choices = getattr(field.validation_alias, "choices", None)
    return str(choices[0]) if choices else str(field.alias or name)


def _property(own: tuple[str, FieldInfo]) -> str:
    name, field = own
    if field.is_required():
        return f"- `{name}` (required)\n"
    default = field.get_default(call_default_factory=True)
    return f"- `{name}`\n" if _is_nothing(default) else f"- `{name}`: {_shown(default)}\n"


def _is_nothing(default: Any) -> bool:
    return default is PydanticUndefined or default in (None, (), {}, [])


def _shown(default: Any) -> str:
    if hasattr(default, "model_dump"):
        return "see above"
    if isinstance(default, timedelta):
        return f"`{format_duration(default)}`"
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
