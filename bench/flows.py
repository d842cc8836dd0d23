"""Flows to fill repositories with."""

from __future__ import annotations


def flow(number: int, note: str = "first") -> str:
    """Return the source of one of many flows in twenty namespaces; `note` tells its versions apart."""
    return f"""\
id: flow{number}
namespace: company.team{number % 20}
description: {note}
inputs:
  - id: day
    type: STRING
    defaults: monday
tasks:
  - id: one
    type: core.log.Log
    message: "{{{{ inputs.day }}}}"
  - id: two
    type: core.flow.If
    condition: "{{{{ inputs.day == 'monday' }}}}"
    then:
      - id: three
        type: core.debug.Return
        format: "{{{{ flow.id }}}}"
"""
