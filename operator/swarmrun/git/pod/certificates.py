"""The image's root certificates and the class's as one file: git and httpx trust one file only.

(The sandbox server has the same few lines: it stands alone, without this program.)
"""

from __future__ import annotations

from pathlib import Path

from swarmrun.errors import InvalidResource

SYSTEM = Path("/etc/ssl/certs/ca-certificates.crt")
"""Where the operator's image (Debian) has them."""


def join(more: Path, target: Path, *, system: Path = SYSTEM) -> None:
    """Writes `target`. Raises InvalidResource where `more` holds no certificate."""
    theirs = more.read_text(encoding="utf-8", errors="replace")
    if "-----BEGIN CERTIFICATE-----" not in theirs:
        raise InvalidResource(
            "ca.crt in the ConfigMap of spec.pods.gitCaConfigMap (or caConfigMap) holds no certificate",
            mend="put certificates there in PEM form",
        )
    roots = system.read_text(encoding="utf-8", errors="replace") if system.is_file() else ""
    target.write_text(f"{roots.rstrip()}\n{theirs}", encoding="utf-8")
