"""Runs each task in a pod of a Kubernetes cluster."""
