"""Expressions: Pebble-compatible templates with the functions and filters of Kestra, compiled to closures.

A template is text with `{{ prints }}` and `{% tags %}`. It can reach its variables, and through the functions what
the `Services` of its scope offer; nothing else exists, there is no access to attributes of Python objects.
"""

from __future__ import annotations

from runner.expressions import filters as _filters  # noqa: F401 - fills the registry
from runner.expressions import functions as _functions  # noqa: F401 - fills the registry
from runner.expressions import tests as _tests  # noqa: F401 - fills the registry
from runner.expressions.check import Call, Finding, calls_in, check_template, constant_calls, names_in
from runner.expressions.limits import DEFAULT_LIMITS, Limits
from runner.expressions.services import NO_SERVICES, Scope, Services
from runner.expressions.template import Template, compile_template, render, render_deep, render_typed
from runner.expressions.values import is_truthy, to_json, to_text

__all__ = [
    "DEFAULT_LIMITS",
    "NO_SERVICES",
    "Call",
    "Finding",
    "Limits",
    "Scope",
    "Services",
    "Template",
    "calls_in",
    "check_template",
    "compile_template",
    "constant_calls",
    "is_truthy",
    "names_in",
    "render",
    "render_deep",
    "render_typed",
    "to_json",
    "to_text",
]
