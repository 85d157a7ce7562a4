"""Runs on one machine: their state directory, and the facade that every command uses."""
