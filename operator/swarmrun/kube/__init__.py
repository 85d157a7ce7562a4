"""Kubernetes as sandboxes and git Pods need it: its API, what all Pods have in common, how one is lost."""
