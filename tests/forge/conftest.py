"""A real Gitea: SWARMRUN_TEST_FORGE is its URL, SWARMRUN_TEST_FORGE_TOKEN an administrator's token on it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from swarmrun.artifacts.store import open_store
from swarmrun.git.repo import RunRepo


@dataclass
class Forge:
    url: str
    token: str
    owner: str

    def api(self, method: str, path: str, body: Any = None, auth: tuple[str, str] | None = None) -> Any:
        headers = {} if auth else {"Authorization": f"token {self.token}"}
        answer = httpx.request(
            method, f"{self.url}/api/v1{path}", json=body, headers=headers, auth=auth, timeout=30
        )
        assert answer.is_success, (method, path, answer.status_code, answer.text)
        return answer.json() if answer.content else None


@dataclass
class Repository:
    forge: Forge
    name: str

    @property
    def url(self) -> str:
        return f"{self.forge.url}/{self.forge.owner}/{self.name}.git"

    @property
    def path(self) -> str:
        return f"/repos/{self.forge.owner}/{self.name}"

    def commit_by_somebody(self, branch: str, file: str) -> str:
        """A person's commit through the web interface; makes `branch` from main when it is not there."""
        there = [b["name"] for b in self.forge.api("GET", f"{self.path}/branches")]
        where = {"branch": branch} if branch in there else {"branch": "main", "new_branch": branch}
        body = {"content": "eA==", "message": f"add {file}", **where}
        return self.forge.api("POST", f"{self.path}/contents/{file}", body)["commit"]["sha"]


@pytest.fixture(scope="session")
def forge() -> Forge:
    url, token = os.environ.get("SWARMRUN_TEST_FORGE"), os.environ.get("SWARMRUN_TEST_FORGE_TOKEN")
    if not url or not token:
        pytest.skip("no Gitea: set SWARMRUN_TEST_FORGE and SWARMRUN_TEST_FORGE_TOKEN")
    found = Forge(url.rstrip("/"), token, "")
    found.owner = found.api("GET", "/user")["login"]
    return found


@pytest.fixture
def make_repository(forge: Forge) -> Iterator[Callable[..., Repository]]:
    made: list[Repository] = []

    def make(**options: Any) -> Repository:
        name = f"t-{secrets.token_hex(6)}"
        forge.api(
            "POST", "/user/repos", {"name": name, "default_branch": "main", "auto_init": True} | options
        )
        made.append(Repository(forge, name))
        return made[-1]

    yield make
    for repository in made:
        forge.api("DELETE", repository.path)


@pytest.fixture
def repository(make_repository: Callable[..., Repository]) -> Repository:
    return make_repository(private=True)


@pytest.fixture
def other_token(forge: Forge) -> Iterator[Callable[..., tuple[str, str]]]:
    """Makes a user of its own and returns (name, token with these scopes)."""
    made: list[str] = []

    def make(*scopes: str) -> tuple[str, str]:
        name, password = f"u-{secrets.token_hex(5)}", secrets.token_hex(16)
        forge.api(
            "POST",
            "/admin/users",
            {
                "username": name,
                "email": f"{name}@forge.invalid",
                "password": password,
                "must_change_password": False,
            },
        )
        made.append(name)
        body = {"name": "t", "scopes": list(scopes)}
        return name, forge.api("POST", f"/users/{name}/tokens", body, auth=(name, password))["sha1"]

    yield make
    for name in made:
        forge.api("DELETE", f"/admin/users/{name}?purge=true")


@pytest.fixture
def repo(tmp_path: Path) -> RunRepo:
    made = RunRepo(tmp_path / "brain.git", open_store((tmp_path / "artifacts").as_uri()), "runs/r1")
    made.init()
    return made
