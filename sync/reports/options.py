"""What repositories decide of their reports, within the operator's settings. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from runner.rules import ReportRules, RepositoryRules
from runner.settings import ReportSettings
from runner.store.records import Environment


def reports(environment: Environment) -> bool:
    """Whether runs of an environment are reported: the operator and the active commit must both want it."""
    return environment.reports and _rules(environment).enabled is not False


def options_of(settings: ReportSettings, environments: Iterable[Environment]) -> ReportSettings:
    """Return the settings for the branch that environments share: of each the least that is said.

    Where they come from several repositories none of these decides for the runs of others: the operator's count alone.
    """
    environments = list(environments)
    if len({each.repository for each in environments}) > 1:
        return settings
    said = [_rules(each) for each in environments]
    least: dict[str, Any] = {
        name: min([getattr(settings, name), *(value for each in said if (value := getattr(each, name)) is not None)])
        for name in ("retention_days", "max_pages")
    }
    if any(each.include == "default" for each in said):
        least["include"] = "default"
    return settings.model_copy(update=least)


def _rules(environment: Environment) -> ReportRules:
    return RepositoryRules.of_json(environment.rules).reports
