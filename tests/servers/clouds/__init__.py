"""Clouds for tests: they speak the published HTTP interfaces over a socket and run jobs as Docker containers.

Google Batch v1, Cloud Run v2 and Cloud Logging v2 (`google.py`), the Azure Batch service 2024-07-01.20.0 (`azure.py`).
What they answer is what the task runners read of it, in the shapes of the official clients' models.
"""
