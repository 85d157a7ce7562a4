"""What the documentation shows of cassettes can be used as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from swarmrun.agents import roles, toolset
from swarmrun.api.plan import Criterion
from swarmrun.cassette.format import Cassette
from swarmrun.models.structured import problems
from swarmrun.ports import Profile
from swarmrun.verifying.judging import answer_schema

DOC = Path(__file__).parents[3] / "docs" / "cassette.md"


def test_the_judge_of_the_example_fits_the_schema_it_is_asked_with():
    block = next(b for b in re.findall(r"```yaml\n(.*?)```", DOC.read_text(), re.DOTALL) if "entries:" in b)
    recording = Cassette.model_validate(yaml.safe_load(block))
    judge = next(entry for entry in recording.defaults if entry.role == "judge")
    schema = answer_schema([Criterion(id="works", question="?", weight=1)])
    assert list(problems(judge.answer, schema)) == []


def test_every_tool_is_named_with_all_its_arguments():
    text = DOC.read_text()
    for name in ("planner", "coder", "researcher", "integrator", "fixer"):
        for spec in toolset.specs(roles.role(name), Profile("m"), empty_repository=False):
            row = next(
                line for line in text.splitlines() if line.startswith("|") and f"`{spec.name}`" in line
            )
            required = spec.parameters.get("required") or []
            for argument in spec.parameters["properties"]:
                assert f"`{argument}{'' if argument in required else '?'}`" in row, (spec.name, argument)
