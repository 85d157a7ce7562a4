"""The system's root certificates and further ones as one file: most programs trust one file only."""

from __future__ import annotations

import os

SYSTEM = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL, Azure Linux
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # BSD, older Alpine
)


def join(more: str, target: str) -> None:
    """Writes `target`. Raises SystemExit where `more` holds no certificate: a server that nobody asked to
    distrust its company's network would fail at every download instead."""
    with open(more, encoding="utf-8", errors="replace") as file:
        theirs = file.read()
    if "-----BEGIN CERTIFICATE-----" not in theirs:
        raise SystemExit(f"sandboxd: {more} holds no certificate; put them there in PEM form")
    system = next((path for path in SYSTEM if os.path.isfile(path)), "")
    roots = ""
    if system:
        with open(system, encoding="utf-8", errors="replace") as file:
            roots = file.read()
    with open(target, "w", encoding="utf-8") as file:
        file.write(f"{roots.rstrip()}\n{theirs}")
