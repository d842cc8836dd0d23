"""The database: the truth about repositories, flows, executions and everything they leave."""
