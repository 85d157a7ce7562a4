"""Tickets of a small support team."""
