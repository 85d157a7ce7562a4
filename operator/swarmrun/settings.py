"""Where things stand on this machine, read once from the environment.

| variable | meaning | default |
| --- | --- | --- |
| `SWARMRUN_HOME` | runs, engines and artifacts on one machine | `$XDG_STATE_HOME/swarmrun`, `~/.local/state/swarmrun` |
| `SWARMRUN_LOG` | level of `swarmrun.log` in a run's directory | `WARNING` |
| `SWARMRUN_SANDBOXES` | `process` (bubblewrap) or `container` (podman, docker) | `process` |
| `SWARMRUN_SANDBOX_IMAGE` | image of containers where run and class name none | `swarmrun-sandbox` |
| `SWARMRUN_CONTAINER_ENGINE` | the engine's command, with options where needed | `podman`, else `docker` |
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    home: Path
    log_level: str
    sandboxes: str
    sandbox_image: str
    container_engine: str


@lru_cache(maxsize=1)
def settings() -> Settings:
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    home = os.environ.get("SWARMRUN_HOME") or f"{state}/swarmrun"
    return Settings(
        home=Path(home).expanduser().absolute(),
        log_level=os.environ.get("SWARMRUN_LOG", "WARNING").upper(),
        sandboxes=os.environ.get("SWARMRUN_SANDBOXES") or "process",
        sandbox_image=os.environ.get("SWARMRUN_SANDBOX_IMAGE") or "swarmrun-sandbox",
        container_engine=os.environ.get("SWARMRUN_CONTAINER_ENGINE", ""),
    )
