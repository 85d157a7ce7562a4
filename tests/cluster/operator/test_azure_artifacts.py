"""A whole run whose artifacts are in Azure's blob storage, as Azurite has it (see tests/engine/test_azurite.py).

The operator is a process here, so that neither it nor its sandboxes need to reach Azurite from a Pod.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

AZURITE = os.environ.get("SWARMRUN_TEST_AZURITE", "").rstrip("/")
NAME = "url-shortener"

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not AZURITE, reason="needs SWARMRUN_TEST_AZURITE"),
]


def test_a_run_keeps_nothing_but_its_engine_and_caches_on_the_disk(
    kubectl: Any,
    make_operator: Callable[..., Any],
    demo: Callable[..., list[dict[str, Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = importlib.util.spec_from_file_location(
        "azurite", Path(__file__).parents[2] / "engine/test_azurite.py"
    )
    assert spec
    assert spec.loader
    azurite = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(azurite)
    container = f"runs-{secrets.token_hex(4)}"
    azurite.make_container(AZURITE, container)
    env = {
        "AZURE_STORAGE_ACCOUNT_NAME": azurite.ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": azurite.KEY,
        "AZURE_STORAGE_ENDPOINT": f"{AZURITE}/{azurite.ACCOUNT}",
        "AZURE_ALLOW_HTTP": "true",
    }
    url = f"az://{container}/prod"
    make_operator(SWARMRUN_ARTIFACTS=url, **env).start()
    kubectl.apply(*demo(ttlSecondsAfterFinished=60))
    kubectl.finished(NAME)
    assert kubectl.reason(NAME) == "Published", kubectl.status(NAME)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    store = azurite.open_store(url)
    instance = kubectl.status(NAME)["run"]
    keys = store.list(f"runs/{instance}")
    assert f"runs/{instance}/report.json" in keys
    assert [k for k in keys if "/bundles/" in k]
    assert not (tmp_path / "operator/state/artifacts").exists()
    # What the TTL removes is removed there.
    kubectl.until(lambda: not store.list("runs"), within=360)
