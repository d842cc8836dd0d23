"""What starts executions: schedules, webhooks, other flows, and the conditions on them. Pure; no I/O in here."""
