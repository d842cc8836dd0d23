"""Dashboards: charts over executions, logs, metrics, flows and triggers, written as YAML in git."""
