"""Python tasks: packages that are there before the body runs, the wanted version, and a module `kestra`."""

from __future__ import annotations

import ast
import re
import shlex
from importlib import resources
from typing import Any, Final

from runner.plugin import Context
from runner.tasks.script import Commands, Script, ScriptTask, texts
from runner.tasks.script_files import write

_PACKAGES: Final = ".mainstem-packages"
_MODULES: Final = ".mainstem-python"
_JSON_WORDS: Final = re.compile(r"\b(?:true|false|null)\b")
_DEFINITION: Final = "true, false, null = True, False, None\n"


class _Python(ScriptTask):
    """What both Python tasks have: packages that are installed before the body runs, and a module `kestra`."""

    dependencies: Any = None
    python_version: Any = None
    dependency_cache_enabled: Any = None
    package_manager: Any = None
    uv_auto_install_enabled: Any = None
    uv_installer_version: Any = None
    uv_installer_sha256: Any = None

    def _lines(self, ctx: Context) -> list[str]:
        write(ctx, f"{_MODULES}/kestra.py", resources.files("runner.tasks.bodies").joinpath("kestra.py").read_bytes())
        lines = super()._lines(ctx)
        packages = texts(ctx, self.dependencies, "dependencies")
        if not packages:
            return lines
        names = " ".join(shlex.quote(package) for package in packages)
        install = f"python3 -m pip install --no-input --quiet --target {_PACKAGES} {names} || exit $?"
        return [install, *lines]

    def language_environment(self, root: str) -> dict[str, str]:
        """Return what makes Python print at once and find the installed packages and our module."""
        return {
            "PYTHONUNBUFFERED": "true",
            "PIP_ROOT_USER_ACTION": "ignore",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHONPATH": f"{root}/{_PACKAGES}:{root}/{_MODULES}",
        }

    def default_image(self, ctx: Context) -> str:
        """Return the slim image of `pythonVersion`."""
        version = ctx.render(self.python_version)
        return f"python:{version}-slim" if version else self.language.image


class CommandsInPython(_Python, Commands):
    """Commands in an environment with Python."""


class ScriptInPython(_Python, Script):
    """A Python script, in which `true`, `false` and `null` may be used since rendered values contain them."""

    def prepared(self, text: str) -> str:
        """Return the script, with the three names defined if it uses them."""
        return with_json_words(text)


def with_json_words(source: str) -> str:
    """Return a Python source that may use `true`, `false` and `null`.

    The definition is put after the docstring and the `from __future__` lines, which must stay first, and only into
    sources with one of the words: it moves the numbers of the lines below it by one.
    """
    if not _JSON_WORDS.search(source):
        return source
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError):
        return _DEFINITION + source
    first = next((line for line in statements if not _must_stay_first(line)), None)
    if first is None:
        return source
    line = min([first.lineno, *(node.lineno for node in getattr(first, "decorator_list", ()))]) - 1
    lines = source.splitlines(keepends=True)
    return "".join([*lines[:line], _DEFINITION, *lines[line:]])


def _must_stay_first(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.ImportFrom):
        return statement.module == "__future__"
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
