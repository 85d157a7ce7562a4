"""Where things stand on this machine, read once from the environment.

| variable | meaning | default |
| --- | --- | --- |
| `SWARMRUN_HOME` | runs, engines and artifacts on one machine | `$XDG_STATE_HOME/swarmrun`, `~/.local/state/swarmrun` |
| `SWARMRUN_LOG` | level of `swarmrun.log` in a run's directory | `WARNING` |
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


@lru_cache(maxsize=1)
def settings() -> Settings:
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    home = os.environ.get("SWARMRUN_HOME") or f"{state}/swarmrun"
    return Settings(
        home=Path(home).expanduser().absolute(),
        log_level=os.environ.get("SWARMRUN_LOG", "WARNING").upper(),
    )
