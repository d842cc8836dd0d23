"""The flow language: loading, models, checks, inputs."""
