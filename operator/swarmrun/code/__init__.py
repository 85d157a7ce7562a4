"""Reads source code of several languages without a model and without running it."""
