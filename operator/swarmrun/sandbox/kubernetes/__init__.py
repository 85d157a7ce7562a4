"""Sandboxes as Pods."""
