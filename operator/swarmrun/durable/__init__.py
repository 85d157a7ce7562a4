"""Durable engines: where orchestrations live, and how workers and clients reach them.

`engine` is the way in. `backend*` is the embedded engine: the SDK's in-memory backend made durable. The others
are what any engine needs: `converter`, `payloads`, `bridge`, `worker`.
"""
