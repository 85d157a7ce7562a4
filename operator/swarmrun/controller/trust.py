"""Certificate authorities of the house, besides the image's: read once, before anything opens a connection.

| variable | meaning |
| --- | --- |
| `SWARMRUN_CA_BUNDLE` | a PEM file (of a mounted ConfigMap) with further authorities; empty: none |

The image's own roots and these are joined in one file, which every library is shown by the variable that it reads.
A file that changes later is read at the next start.
"""

from __future__ import annotations

import os
import ssl
import sys
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

READERS = (
    "SSL_CERT_FILE",  # OpenSSL: httpx and the models' client; rustls: the artifact store
    "REQUESTS_CA_BUNDLE",  # requests: Entra tokens
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",  # gRPC: the Durable Task Scheduler
)

_DEBIAN = "/etc/ssl/certs/ca-certificates.crt"


def trust(env: MutableMapping[str, str]) -> None:
    """Sets the variables in `env`. Ends the process when the file is not there or holds no certificate: without it
    every later connection would fail, with a worse message."""
    given = env.get("SWARMRUN_CA_BUNDLE", "")
    if not given:
        return
    try:
        ssl.create_default_context(cafile=given)
        ours = Path(given).read_text(encoding="utf-8")
    except (OSError, ssl.SSLError, UnicodeDecodeError) as exc:
        sys.exit(
            f"swarmrun-operator: SWARMRUN_CA_BUNDLE {given} holds no certificates: {exc} (mend caBundle)"
        )
    joined = Path(tempfile.gettempdir()) / f"swarmrun-ca-{os.getpid()}.pem"
    joined.write_text("\n".join([roots(), ours]), encoding="utf-8")
    for name in READERS:
        env[name] = str(joined)


def roots() -> str:
    """The image's own authorities; those that came with the Python packages where it has none."""
    for path in (ssl.get_default_verify_paths().cafile, _DEBIAN):
        if path and Path(path).exists():
            return Path(path).read_text(encoding="utf-8")
    import certifi

    return Path(certifi.where()).read_text(encoding="utf-8")
