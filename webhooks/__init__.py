"""Everything that speaks HTTP: webhook receivers, hosted git, the REST API."""
