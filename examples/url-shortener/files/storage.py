"""Links in SQLite."""

from __future__ import annotations

import secrets
import sqlite3

from shortener.formats import ALPHABET, valid_code, valid_url
from shortener.models import Link


class Storage:
    """One table; every statement takes its values as parameters."""

    def __init__(self, path: str = ":memory:") -> None:
        self._db = sqlite3.connect(path)
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS links (code TEXT PRIMARY KEY, url TEXT NOT NULL, hits INTEGER NOT NULL)"
        )

    def add(self, url: str, code: str | None = None) -> Link:
        if not valid_url(url):
            raise ValueError(f"not a web address: {url!r}")
        code = code or "".join(secrets.choice(ALPHABET) for _ in range(7))
        if not valid_code(code):
            raise ValueError(f"not a code: {code!r}")
        try:
            with self._db:
                self._db.execute("INSERT INTO links VALUES (?, ?, 0)", (code, url))
        except sqlite3.IntegrityError as exc:
            raise ValueError(f"code {code!r} is taken") from exc
        return Link(code, url)

    def get(self, code: str) -> Link:
        row = self._db.execute("SELECT code, url, hits FROM links WHERE code = ?", (code,)).fetchone()
        if row is None:
            raise KeyError(code)
        return Link(*row)

    def hit(self, code: str) -> Link:
        with self._db:
            self._db.execute("UPDATE links SET hits = hits + 1 WHERE code = ?", (code,))
        return self.get(code)

    def all(self) -> list[Link]:
        rows = self._db.execute("SELECT code, url, hits FROM links ORDER BY code").fetchall()
        return [Link(*row) for row in rows]
