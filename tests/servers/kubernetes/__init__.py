"""A Kubernetes API server and the one node behind it, for tests.

It speaks core/v1 (pods, their logs and `exec`, secrets, events) over a socket as an API server of version 1.37 does,
and runs the containers of a pod as real Docker containers. What it does not do: admission plugins, quotas, volumes
other than `emptyDir`, probes, services, more than one node.
"""
