"""What starts executions: trigger types, conditions and schedules, as pure functions."""
