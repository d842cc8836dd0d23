"""The classes of all script tasks, made from the table of languages: `RubyScript`, `RubyCommands` ..."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from pydantic import create_model

from runner.errors import TaskError
from runner.expressions import is_truthy
from runner.plugin import Context
from runner.tasks.languages import LANGUAGES, Language
from runner.tasks.script import Commands, Script, ScriptTask
from runner.tasks.script_python import CommandsInPython, ScriptInPython

_EXTENSION: Final = re.compile(r"\.?[A-Za-z0-9]+")
FORMS: Final = ("Commands", "Script")
"""The two types that each language has."""


class _JbangScript(Script):
    """What JBang has more: scripts of several languages, told apart by `extension`, and its own messages."""

    extension: Any = ".java"
    quiet: Any = True

    def suffix(self, ctx: Context) -> str:
        """Return the extension, with its dot."""
        extension = ctx.render(self.extension).strip()
        if not _EXTENSION.fullmatch(extension):
            raise TaskError("task.property.invalid", f"`extension` {extension!r} is no end of a file's name")
        return extension if extension.startswith(".") else f".{extension}"

    def call(self, ctx: Context, path: str) -> str:
        """Return the call of JBang, whose own messages are left out by default."""
        quiet = ["--quiet"] if is_truthy(ctx.render(self.quiet)) else []
        return " ".join((*self.language.command, *quiet, path))


_BASES: Final[Mapping[str, tuple[type[ScriptTask], type[ScriptTask]]]] = {
    "jbang": (Commands, _JbangScript),
    "python": (CommandsInPython, ScriptInPython),
}


_PLACES: Final[Mapping[str, tuple[Language, str]]] = {
    f"{language.class_prefix}{form}": (language, form) for language in LANGUAGES.values() for form in FORMS
}
_made: Final[dict[str, type[ScriptTask]]] = {}


def script_class(name: str) -> type[ScriptTask]:
    """Return the class called `name`, made when it is first asked for: a process needs few of them.

    Raises:
        AttributeError: there is no such class.
    """
    if name not in _PLACES:
        raise AttributeError(name)
    return _made.get(name) or _made.setdefault(name, _make(name, *_PLACES[name]))


def _make(name: str, language: Language, form: str) -> type[ScriptTask]:
    base = _BASES.get(language.name, (Commands, Script))[FORMS.index(form)]
    own: dict[str, Any] = {"language": (ClassVar[Language], language)}
    return create_model(name, __base__=base, __module__=__name__, __doc__=_text(language, form), **own)


def _text(language: Language, form: str) -> str:
    if form == "Script":
        return f"{language.title} script" + (f", run by `{' '.join(language.command)}`." if language.command else ".")
    return f"Commands in an environment with {language.title}." if language.command else f"{language.title} commands."


def __getattr__(name: str) -> Any:
    return script_class(name)
