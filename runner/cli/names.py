"""What users write on the command line: names of flows, labels."""

from __future__ import annotations

import click


def flow_name(text: str) -> tuple[str, str]:
    """Return the namespace and the id of `NAMESPACE.FLOW`, or of `NAMESPACE/FLOW` for ids with dots.

    Raises:
        BadParameter: it is neither.
    """
    namespace, _, flow_id = text.rpartition("/" if "/" in text else ".")
    if not namespace or not flow_id:
        raise click.BadParameter(f"{text!r} is not NAMESPACE.FLOW", param_hint="NAMESPACE.FLOW")
    return namespace, flow_id


def label(text: str) -> tuple[str, str]:
    """Return the key and the value of `KEY=VALUE` or `KEY:VALUE`, whichever sign comes first.

    Raises:
        BadParameter: it has neither sign, or no key.
    """
    sign = min("=:", key=lambda each: text.find(each) if each in text else len(text))
    key, found, value = text.partition(sign)
    if not found or not key:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--label")
    return key, value
