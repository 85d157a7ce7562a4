"""Sandboxes: the server inside (`sandboxd`), the client, and the providers that start one."""
