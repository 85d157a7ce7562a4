"""Short texts in histories: cut, and without keys."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from swarmrun.activities.previews import of_output
from swarmrun.artifacts.store import open_store
from swarmrun.durable.payloads import ArtifactPayloads
from swarmrun.observability.previews import LIMIT, preview, previewed
from swarmrun.observability.secrets import held
from swarmrun.steps import STEPS, RunRef, StepModel


@given(st.text(max_size=4000).map(lambda t: t * 3), st.integers(8, LIMIT))
def test_a_preview_has_at_most_its_bytes_and_is_the_head(text: str, limit: int) -> None:
    shown = preview(text, limit=limit)
    assert len(shown.encode()) <= limit


def test_a_cut_is_shown_and_hits_no_character() -> None:
    assert preview("ä" * 3000) == "ä" * 1022 + "…"
    assert preview(" short ") == "short"


def test_a_file_name_that_is_no_utf_8_is_shown() -> None:
    assert preview("caf\udce9") == "caf\\xe9"


def test_keys_are_taken_out_those_of_the_environment_wherever_they_stand() -> None:
    known = held(
        {
            "MODEL_API_KEY": "plain-words-as-key",
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=header-value-1,x=y",
            "SWARMRUN_MASTER_KEY_FILE": "/var/run/key",
            "HOME": "/home/somebody",
        }
    )
    text = "a plain-words-as-key b header-value-1 c AKIAABCDEFGHIJKLMNOP /var/run/key"
    assert preview(text, known) == "a [secret removed] b [secret removed] c [secret removed] /var/run/key"


def test_a_payload_begins_with_its_preview_and_reads_as_before() -> None:
    data = previewed("hello", {"run": "r"})
    assert next(iter(data)) == "preview"
    assert RunRef.model_validate(data).run == "r"


def test_every_kind_of_result_has_a_text() -> None:
    for step in STEPS.values():
        assert of_output(RunRef(run="r"), _blank(step.out)), step.name


def _blank(kind: type[StepModel]) -> StepModel:
    """One with what it must have."""
    from swarmrun.api.status import Judgement, PlanStatus
    from swarmrun.steps import UsageRecord

    values = {
        "status": PlanStatus(summary="s"),
        "usage": UsageRecord(tier="standard"),
        "judgement": Judgement(round=0, score=1),
        "told": "t",
    }
    fields = kind.model_fields
    return kind.model_construct(
        **{
            name: values.get(
                name, field.get_default(call_default_factory=True) if not field.is_required() else "x"
            )
            for name, field in fields.items()
        }
    )


def test_a_payload_that_is_elsewhere_still_tells_its_preview(tmp_path: Path) -> None:
    payloads = ArtifactPayloads(open_store(tmp_path.as_uri()))
    data = json.dumps({"preview": "the whole report", "rest": "x" * 1000}).encode()
    token = payloads.upload(data, instance_id="r:a:1")
    assert token.endswith("\nthe whole report")
    assert payloads.is_known_token(token)
    assert payloads.download(token) == data
    # Something without one, and what an earlier version stored.
    plain = payloads.upload(b"[1]", instance_id="r")
    assert "\n" not in plain
    assert payloads.download(plain) == b"[1]"
