"""Schemas of what the API answers; the functions of `webhooks.shapes` build what fits them."""
