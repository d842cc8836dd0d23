"""Answers to pull and merge requests: the plan of what they would change, before anybody merges."""
