"""The artifact store, chosen by URL, over `obstore` (the object_store crate).

| URL | where |
| --- | --- |
| `file:///path` | a local directory (made when missing) |
| `az://container/prefix`, `azure://…` | Azure Blob; credentials from the environment (workload identity, `AZURE_*`) |
| `s3://bucket/prefix` | S3 or compatible; credentials from the environment (`AWS_*`) |
| `memory://` | this process alone; for tests |

A local put writes a staging file and renames it (a conditional one hard-links it), so a reader sees the whole
value or none and a killed process leaves at most a staging file, which is never listed. It is not fsynced: what
was put survives the death of the process, not necessarily that of the machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import obstore
from obstore import exceptions as failures
from obstore.store import LocalStore, MemoryStore, from_url

from swarmrun.errors import InvalidResource, NotFound, PermissionDenied, StorageUnavailable, SwarmRunError

if TYPE_CHECKING:
    from obstore.store import ObjectStore, RetryConfig

_SEGMENT = re.compile(r"[A-Za-z0-9._@+=-]{1,200}")
# S3 and Azure allow 1024 bytes in all; 100 are left for the URL's own prefix (an arbitrary share).
_MAX_KEY = 924
# Short: the durable engine tries again later.
_RETRIES: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}
_SCHEMES = {"file", "az", "azure", "s3", "memory"}


def open_store(url: str) -> Artifacts:
    """The store at `url`. Raises InvalidResource (unknown scheme, bad URL), StorageUnavailable."""
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise InvalidResource(
            f"artifact store {url!r}: unknown scheme", mend="use file:///…, az://…, s3://… or memory://"
        )
    place = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"  # no user part, no query: they hold keys
    if parts.scheme == "memory":
        return Artifacts(MemoryStore(), place)
    if parts.scheme == "file":
        path = Path(unquote(parts.path))
        if parts.netloc not in ("", "localhost") or not path.is_absolute() or path == Path("/"):
            raise InvalidResource(f"artifact store {url!r} names no directory", mend="use file:///path")
        try:
            path.mkdir(parents=True, exist_ok=True)
            return Artifacts(LocalStore(path, automatic_cleanup=True), place)
        except (OSError, failures.BaseError) as exc:
            raise StorageUnavailable(
                f"artifact store {place} cannot be opened: {_first_line(exc)}",
                mend="name a directory that can be written",
            ) from exc
    try:
        address = "az" + url[5:] if parts.scheme == "azure" else url
        return Artifacts(from_url(address, retry_config=_RETRIES), place)
    except (ValueError, failures.BaseError) as exc:
        raise InvalidResource(
            f"artifact store {place} cannot be opened: {_first_line(exc)}",
            mend="check the URL and the credentials in the environment",
        ) from exc


class Artifacts:
    """`ports.ArtifactStore` over one obstore store. Safe for threads; several processes may share the place.

    A key is `/`-separated; a segment has letters, digits and `. _ @ + = -`, at most 200 characters, and is
    neither `.` nor `..`. Anything else raises InvalidResource before the store is touched.
    """

    def __init__(self, store: ObjectStore, place: str) -> None:
        self._store = store
        self.place = place
        """For messages: the URL without secrets."""

    def put(self, key: str, data: bytes) -> str:
        with self._failing("write", _checked(key)):
            obstore.put(self._store, key, data)
        return key

    def put_new(self, key: str, data: bytes) -> bytes:
        with self._failing("write", _checked(key)):
            try:
                obstore.put(self._store, key, data, mode="create")
            except failures.AlreadyExistsError:
                return self.get(key)
        return data

    def get(self, key: str) -> bytes:
        with self._failing("read", _checked(key)):
            return bytes(obstore.get(self._store, key).bytes())

    def exists(self, key: str) -> bool:
        with self._failing("read", _checked(key)):
            try:
                obstore.head(self._store, key)
            except FileNotFoundError:
                return False
        return True

    def list(self, prefix: str) -> Sequence[str]:
        """Keys under `prefix` (whole segments: `a/b` does not match `a/bc`), sorted. Empty: all."""
        prefix = prefix.rstrip("/")
        with self._failing("list", _checked(prefix) if prefix else ""):
            return sorted(
                item["path"] for chunk in obstore.list(self._store, prefix or None) for item in chunk
            )

    def times(self, prefix: str) -> list[tuple[str, datetime]]:
        """Keys under `prefix` as `list` gives them, unsorted, each with the time at which it was stored, by the
        store's clock."""
        with self._failing("list", _checked(prefix)):
            return [
                (item["path"], item["last_modified"])
                for chunk in obstore.list(self._store, prefix)
                for item in chunk
            ]

    def delete(self, prefix: str) -> None:
        """Deletes the key `prefix` and every key under it. What is gone already is no error."""
        prefix = _checked(prefix.rstrip("/"))
        for key in [*self.list(prefix), *([prefix] if self.exists(prefix) else [])]:
            with self._failing("delete", key):
                try:
                    obstore.delete(self._store, key)
                except FileNotFoundError:
                    continue

    @contextmanager
    def _failing(self, what: str, key: str) -> Iterator[None]:
        """Translates what obstore raises."""
        try:
            yield
        except SwarmRunError:
            raise
        except FileNotFoundError as exc:
            raise NotFound(f"no artifact {key!r} in {self.place}") from exc
        except (failures.PermissionDeniedError, failures.UnauthenticatedError) as exc:
            raise PermissionDenied(
                f"cannot {what} {key!r} in {self.place}: {_first_line(exc)}",
                mend="give this identity the right to read and write there",
            ) from exc
        except (failures.BaseError, OSError) as exc:
            full = any(sign in str(exc) for sign in ("StorageFull", "os error 28", "os error 122"))
            raise StorageUnavailable(
                f"cannot {what} {key!r} in {self.place}: "
                + ("the disk or its quota is full" if full else _first_line(exc)),
                mend="free space there and resume"
                if full
                else "check that the place can be reached and written",
                reason="DiskFull" if full else "",
            ) from exc


def _checked(key: str) -> str:
    segments = key.split("/")
    if len(key) > _MAX_KEY or not all(_SEGMENT.fullmatch(s) and s not in (".", "..") for s in segments):
        raise InvalidResource(
            f"artifact key {key[:200]!r} is not valid",
            mend="use /-separated names of letters, digits and . _ @ + = -",
        )
    return key


def _first_line(exc: BaseException) -> str:
    # obstore appends a Rust debug dump, which can hold signed URLs.
    return (str(exc).strip() or type(exc).__name__).splitlines()[0]
