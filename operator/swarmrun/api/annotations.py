"""Annotations of a SwarmRun through which people talk to a run that works.

Words to a run are annotations, not fields: what stands in git would put a field back at the next sync.

| annotation | value | meaning |
| --- | --- | --- |
| `swarmrun.dev/approve-plan` | `status.plan.hash`, or its first 12 or more characters | go on with exactly this plan |
| `swarmrun.dev/reject-plan` | the same, a space, the reason | end the run |
| `swarmrun.dev/approve-publish` | `status.result.commit`, or its first 12 or more | publish exactly this commit |
| `swarmrun.dev/reject-publish` | the same, a space, the reason | end the run |
| `swarmrun.dev/suspend` | RFC 3339 time | agents stop at their next turn |
| `swarmrun.dev/resume` | RFC 3339 time | takes back an earlier `suspend` (not `spec.suspend`) |
| `swarmrun.dev/cancel` | the reason, may be empty | ends the run; every branch is kept |
| `swarmrun.dev/attempt` | a whole number, default 1 | a higher one starts an ended run afresh |
| `swarmrun.dev/rerun-from` | `plan`, `work`, `task/<id>`, `judge`, `publish` | from there on: what the attempt before \
it has made up to there is kept |
"""

from __future__ import annotations

from typing import Final

APPROVE: Final = {"plan": "swarmrun.dev/approve-plan", "publish": "swarmrun.dev/approve-publish"}
REJECT: Final = {"plan": "swarmrun.dev/reject-plan", "publish": "swarmrun.dev/reject-publish"}
SUSPEND: Final = "swarmrun.dev/suspend"
RESUME: Final = "swarmrun.dev/resume"
CANCEL: Final = "swarmrun.dev/cancel"
ATTEMPT: Final = "swarmrun.dev/attempt"
RERUN_FROM: Final = "swarmrun.dev/rerun-from"

MIN_BOUND: Final = 12
"""Characters of a hash or commit that name it well enough for an approval."""
