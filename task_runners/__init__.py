"""Where a task runs: one command, somewhere. Knows no flow, renders nothing."""
