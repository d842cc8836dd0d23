"""The languages of script tasks, one row each: everything in which one family of types differs from another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

__all__ = ["LANGUAGES", "Language"]

_SHELL = ("/bin/sh", "-c")
_POWERSHELL = ("pwsh", "-NoProfile", "-NonInteractive", "-Command")
_DOTNET_IMAGE = "mcr.microsoft.com/dotnet/sdk:10.0"
_DOTNET_SDK = "the .NET SDK 8.0 or newer"
# The SDK does not bring the program that runs C# scripts.
_DOTNET_SCRIPT = (
    'export PATH="$PATH:$HOME/.dotnet/tools"',
    "command -v dotnet-script >/dev/null || dotnet tool install -g dotnet-script >/dev/null",
)


@dataclass(frozen=True, slots=True)
class Language:
    """How scripts of a language run.

    `name` is that of the types: `scripts.NAME.Script`. `command` stands before the script's file, its first word is the
    program that must be there; without one the interpreter of the commands runs the script itself. `install` tells
    what brings the program to a machine. `fail_fast` is what makes `interpreter` stop at the first failure. `prelude`
    are commands before those of a script. `is_real`: the tests run scripts with the language itself, else with a
    program that records how it was called.
    """

    name: str
    title: str
    image: str
    suffix: str = ""
    command: tuple[str, ...] = ()
    install: str = ""
    interpreter: tuple[str, ...] = _SHELL
    fail_fast: str = "set -e"
    prelude: tuple[str, ...] = ()
    is_real: bool = True

    @property
    def program(self) -> str:
        """The program that runs a script, as it is called; nothing where the interpreter does."""
        return self.command[0] if self.command else ""

    @property
    def class_prefix(self) -> str:
        """What the names of its classes start with."""
        return self.name.capitalize()


_CSHARP = Language(
    "csharp",
    "C#",
    _DOTNET_IMAGE,
    ".csx",
    ("dotnet-script",),
    _DOTNET_SDK,
    prelude=_DOTNET_SCRIPT,
    is_real=False,
)
_ROWS = (
    Language("shell", "Shell", "ubuntu", install="apt install dash"),
    Language("python", "Python", "python:3.13-slim", ".py", ("python3",), "apt install python3"),
    Language("node", "Node.js", "node", ".js", ("node",), "apt install nodejs"),
    Language("r", "R", "r-base", ".R", ("Rscript",), "apt install r-base-core"),
    Language("ruby", "Ruby", "ruby", ".rb", ("ruby",), "apt install ruby"),
    Language("perl", "Perl", "perl", ".pl", ("perl",), "apt install perl"),
    Language("php", "PHP", "php", ".php", ("php",), "apt install php-cli"),
    Language("lua", "Lua", "nickblah/lua", ".lua", ("lua",), "apt install lua5.4"),
    Language("deno", "Deno", "denoland/deno", ".ts", ("deno", "run"), "npm install --global deno"),
    Language("bun", "Bun", "oven/bun", ".ts", ("bun", "run"), "npm install --global bun"),
    Language("go", "Go", "golang", ".go", ("go", "run"), "apt install golang-go", is_real=False),
    Language("julia", "Julia", "julia", ".jl", ("julia",), "Julia 1.6 or newer", is_real=False),
    Language("groovy", "Groovy", "groovy", ".groovy", ("groovy",), "apt install groovy", is_real=False),
    Language("jbang", "JBang", "jbangdev/jbang-action", ".java", ("jbang",), "JBang and a JDK", is_real=False),
    replace(_CSHARP, name="dotnet"),
    _CSHARP,
    Language("fsharp", "F#", _DOTNET_IMAGE, ".fsx", ("dotnet", "fsi"), _DOTNET_SDK, is_real=False),
    Language(
        "powershell",
        "PowerShell",
        "ghcr.io/kestra-io/powershell:latest",
        ".ps1",
        install="PowerShell 7",
        interpreter=_POWERSHELL,
        fail_fast="$ErrorActionPreference = 'Stop'",
        is_real=False,
    ),
)

LANGUAGES: Mapping[str, Language] = {row.name: row for row in _ROWS}
"""By name, in the order in which they are documented."""
