"""Agents as data and as hands: roles, prompts, tools, transcripts, guards. Decides nothing about a run."""
