"""Tasks on git repositories: clone them, bring what they hold to a namespace, push what a namespace holds."""
