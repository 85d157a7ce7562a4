"""Which program is wanted: said by the leading controller, whatever its store does meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from swarmrun.controller import process
from swarmrun.controller.rollout import KEY, Rollout
from swarmrun.orchestration.program import program


def test_a_store_that_is_away_when_a_controller_begins_to_lead_is_asked_until_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "RETRY_SECONDS", 0.01)
    rollout = Rollout(tmp_path.as_uri())
    # Nothing can be put where a directory has the key's name.
    (tmp_path / KEY).mkdir()
    (tmp_path / KEY / "in the way").touch()

    async def scenario() -> None:
        leads = asyncio.create_task(process._lead(rollout))
        await asyncio.sleep(0.2)
        assert not leads.done()
        (tmp_path / KEY / "in the way").unlink()
        (tmp_path / KEY).rmdir()
        await asyncio.wait_for(leads, 10)

    asyncio.run(scenario())
    assert (tmp_path / KEY).read_text() == program()
    assert rollout.wanted()
