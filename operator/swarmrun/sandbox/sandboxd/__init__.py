"""The server inside every sandbox: standard library only, Python >= 3.9, started as `python3 -I DIR`.

This directory is the one source of it: the process provider binds it into a sandbox, the sandbox image
copies it. The brain imports `PROTOCOL` from here, so that both sides compare the same number.

A request is `POST /v1/<op>` with `Authorization: Bearer <token>`. The first line of a body is JSON, what
follows its line feed is the payload (a file's bytes, a git bundle); answers have the same form. An error
is `{"error": {"code", "message"}}`. A request with a `traceparent` is answered with a `Server-Timing`.
"""

PROTOCOL = 1
"""Raised with every change that an older client or server would misunderstand."""
