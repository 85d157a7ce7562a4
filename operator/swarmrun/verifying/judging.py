"""From samples of a judge to one score: criteria fixed beforehand, evidence checked, arithmetic by code."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Literal

from swarmrun.api.base import clip
from swarmrun.api.plan import Criterion, Plan, Role
from swarmrun.errors import PermanentError

Verdict = Literal["yes", "no", "unknown"]
VALUES: dict[Verdict, float] = {"yes": 1.0, "unknown": 0.5, "no": 0.0}
"""An unknown is worth half: what a weak judge cannot quote must not sink a good result, and all unknown gives
50, which is below the default threshold. A choice."""
NEAR = 3
"""Lines around the named one in which a quote may stand. Arbitrary: models count lines badly."""
SHORTEST_QUOTE = 4
"""Characters without white space; a lone bracket proves nothing. Arbitrary."""
NOT_ANSWERED = "not answered"
TASK_WEIGHT = 40
"""Divided among the tasks that have statements for the judge; the default rubric's weights sum to 100."""


@dataclass(frozen=True)
class Evidence:
    """`where` is `path:line` or a gate's name; `quote` the text that stands there."""

    where: str
    quote: str = ""


@dataclass(frozen=True)
class Answer:
    criterion: str
    verdict: Verdict = "unknown"
    evidence: tuple[Evidence, ...] = ()
    reason: str = ""
    note: str = ""
    """Why the verdict was changed to unknown."""


@dataclass(frozen=True)
class Tally:
    """Several samples as one judgement."""

    score: int
    """0 to 100."""
    spread: int
    """Largest less smallest score of a single sample."""
    verdicts: dict[str, Verdict]
    """Criterion → what more than half of the samples say; unknown where none does."""
    complaints: list[str] = field(default_factory=list[str])
    """What is not met or not shown, weightiest first, with the reason given."""
    notes: list[str] = field(default_factory=list[str])

    @property
    def closed(self) -> list[str]:
        """Criteria answered yes."""
        return [criterion for criterion, verdict in self.verdicts.items() if verdict == "yes"]

    @property
    def open(self) -> list[str]:
        return [criterion for criterion, verdict in self.verdicts.items() if verdict != "yes"]


def criteria(rubric: Sequence[Criterion], plan: Plan) -> list[Criterion]:
    """The run's rubric, the plan's own criteria, and one per task whose acceptance has statements that no
    command checks; a researcher's notes are not part of the result and not judged. Fixed when the plan is; an
    id that stands twice counts once."""
    listed = [*rubric, *plan.criteria]
    stated = [
        (t, said)
        for t in plan.tasks
        if t.role is not Role.RESEARCHER and (said := [a.description for a in t.acceptance if not a.command])
    ]
    for task, said in stated:
        listed.append(
            Criterion(
                id=f"accept-{task.id}"[:40].rstrip("-"),
                question=clip(f"{task.title}: do all of these hold? " + "; ".join(said), 500),
                weight=max(1, TASK_WEIGHT // len(stated)),
            )
        )
    return list({criterion.id: criterion for criterion in reversed(listed)}.values())[::-1]


def permute(listed: Sequence[Criterion], sample: int) -> list[Criterion]:
    """Another order for each sample, always the same for the same sample: judges favour what comes first."""
    return sorted(listed, key=lambda c: sha256(f"{sample}:{c.id}".encode()).digest())


def answer_schema(listed: Sequence[Criterion]) -> dict[str, Any]:
    """JSON schema of a judge's answer; every field required, as strict modes ask. Evidence comes before the
    verdict, so that the model looks before it says."""
    evidence = _object(
        where={"type": "string", "description": "path:line in the repository, or a gate's name"},
        quote={"type": "string", "description": "text copied from that line; empty for a gate"},
    )
    answer = _object(
        criterion={"type": "string", "enum": [criterion.id for criterion in listed]},
        evidence={"type": "array", "items": evidence},
        reason={"type": "string"},
        answer={"type": "string", "enum": list(VALUES)},
    )
    return _object(answers={"type": "array", "items": answer})


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


# ---------------------------------------------------------------- a stranger's answers


def normalise_answers(raw: object, listed: Sequence[Criterion]) -> list[Answer]:
    """One answer per criterion, in order; what is missing or cannot be read is unknown. Never raises."""
    found: dict[str, Answer] = {}
    ids = {_fold(criterion.id): criterion.id for criterion in listed}
    for criterion, item in _items(_decoded(raw)):
        body = item if isinstance(item, dict) else {"answer": item}
        body = {_fold(str(key)): value for key, value in body.items()}
        name = criterion or next((body[k] for k in ("criterion", "id", "name") if k in body), "")
        identity = ids.get(_fold(_text(name)))
        if identity is None or identity in found:
            continue
        verdict = next((body[k] for k in ("answer", "verdict", "value", "met") if k in body), None)
        found[identity] = Answer(
            identity,
            _verdict(verdict),
            tuple(_evidence(body.get("evidence"))),
            clip(_text(next((body[k] for k in ("reason", "comment", "explanation") if k in body), "")), 1000),
        )
    return [found.get(c.id, Answer(c.id, note=NOT_ANSWERED)) for c in listed]


def answered(raw: object, listed: Sequence[Criterion]) -> bool:
    """Whether any criterion is answered at all; "unknown" is an answer, too."""
    return any(answer.note != NOT_ANSWERED for answer in normalise_answers(raw, listed))


def _items(value: object) -> Iterator[tuple[str, object]]:
    """(criterion or empty, answer) of a list or of a mapping by criterion."""
    if isinstance(value, list):
        yield from (("", item) for item in value)
    elif isinstance(value, dict):
        inner = value.get("answers", value.get("criteria", value.get("results")))
        if inner is not None:
            yield from _items(_decoded(inner))
        elif "criterion" in value:
            yield "", value
        else:
            yield from ((str(key), item) for key, item in value.items())


def _decoded(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = re.search(r"```(?:json)?\s*\n(.*?)```", value, re.DOTALL)
    text = (match[1] if match else value).strip()
    start = min((at for at in (text.find("{"), text.find("[")) if at >= 0), default=-1)
    if start < 0:
        return None
    try:
        return json.JSONDecoder().raw_decode(text, start)[0]
    except (ValueError, RecursionError):
        return None


def _verdict(value: object) -> Verdict:
    if isinstance(value, bool):
        return "yes" if value else "no"
    word = re.match(r"\s*([a-z]+)", _text(value).lower())
    known: dict[str, Verdict] = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}
    return known.get(word[1], "unknown") if word else "unknown"


def _evidence(value: object) -> Iterator[Evidence]:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            body = {_fold(str(key)): entry for key, entry in item.items()}
            where = _text(
                next((body[k] for k in ("where", "location", "gate", "file", "path") if body.get(k)), "")
            )
            line = _text(body.get("line"))
            if line.isdigit() and not re.search(r":\d+$", where):
                where = f"{where}:{line}"
            yield Evidence(clip(where.strip(), 300), clip(_text(body.get("quote", body.get("text"))), 2000))
        elif item is not None and _text(item).strip():
            # `a.py:12: return x` or `a.py:12`
            match = re.match(r"\s*`?([^\s`:]+:\d+)`?(?:-\d+)?[:\s]*(.*)", _text(item), re.DOTALL)
            yield (
                Evidence(match[1], clip(match[2], 2000))
                if match
                else Evidence(clip(_text(item).strip(), 300))
            )


def _text(value: object) -> str:
    if value is None or isinstance(value, dict | list):
        return ""
    try:
        return str(value).encode("utf-8", "replace").decode()
    except ValueError:
        return ""  # an integer of thousands of digits


def _fold(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


# ---------------------------------------------------------------- evidence


def check_evidence(
    answers: Sequence[Answer], read: Callable[[str], bytes], gates: Collection[str] = ()
) -> list[Answer]:
    """A yes without evidence that holds counts as unknown. A no stands without: what is not there cannot be
    quoted.

    `read` gives a file of the judged commit and raises NotFound; `gates` are the names of those that passed:
    a failing gate proves no yes.
    """
    return [_checked(answer, read, gates) for answer in answers]


def _checked(answer: Answer, read: Callable[[str], bytes], gates: Collection[str]) -> Answer:
    if answer.verdict != "yes":
        return answer
    problems = [_problem(evidence, read, gates) for evidence in answer.evidence]
    if "" in problems:
        return answer
    return replace(answer, verdict="unknown", note=problems[0] if problems else "yes without evidence")


def _problem(evidence: Evidence, read: Callable[[str], bytes], gates: Collection[str]) -> str:
    """Empty when it holds."""
    where = evidence.where.strip("` ")
    if where.removeprefix("gate:").strip() in gates:
        return ""
    match = re.match(r"^(?:\./)?(?P<path>.+?)[:#]L?(?P<line>\d{1,9})(?:[-:]L?\d+)*$", where)
    if not match:
        return f"{clip(where, 80) or 'evidence'} is neither path:line nor a gate that passed"
    try:
        rows = read(match["path"]).decode("utf-8", "replace").splitlines()
    except PermanentError:
        return f"{match['path']} does not exist"
    line = int(match["line"])
    if not 1 <= line <= len(rows):
        return f"{match['path']} has {len(rows)} lines, not {line}"
    quote = _squeezed(evidence.quote)
    if len(quote) < SHORTEST_QUOTE:
        return f"nothing is quoted from {match['path']}:{line}"
    tall = evidence.quote.strip().count("\n")
    around = rows[max(0, line - 1 - NEAR) : line + NEAR + tall]
    if quote not in _squeezed("\n".join(around)):
        return f"the quote is not at {match['path']}:{line}"
    return ""


def _squeezed(text: str) -> str:
    """White space, line numbers as the tools print them (`L12: `), and quoting ticks left out."""
    text = re.sub(r"^\s*L?\d+: ", "", text.strip().strip("`"), flags=re.MULTILINE)
    return re.sub(r"\s+", "", text)


# ---------------------------------------------------------------- the score


def tally(samples: Sequence[Sequence[Answer]], listed: Sequence[Criterion]) -> Tally:
    """`samples`: checked answers, one per criterion each. The majority per criterion makes the score."""
    verdicts: dict[str, Verdict] = {}
    complaints: list[tuple[int, str]] = []
    notes: list[str] = []
    for criterion in listed:
        answers = [a for sample in samples for a in sample if a.criterion == criterion.id]
        majority = _majority([a.verdict for a in answers], len(samples))
        verdicts[criterion.id] = majority
        notes += [f"{criterion.id}: {a.note}" for a in answers if a.note]
        if majority != "yes":
            reasons = [a.reason for a in answers if a.verdict == majority and a.reason]
            reasons += [a.note for a in answers if a.verdict == majority and a.note]
            said = reasons[0] if reasons else criterion.question
            places = [e.where for a in answers if a.verdict == "no" for e in a.evidence if e.where]
            text = f"{criterion.id}: {'' if majority == 'no' else 'not shown: '}{said}"
            complaints.append((-criterion.weight, clip(text + (f" ({places[0]})" if places else ""))))
    scores = [_score({a.criterion: a.verdict for a in sample}, listed) for sample in samples]
    return Tally(
        score=_score(verdicts, listed),
        spread=max(scores, default=0) - min(scores, default=0),
        verdicts=verdicts,
        complaints=[text for _, text in sorted(complaints, key=lambda c: c[0])],
        notes=notes,
    )


def _majority(verdicts: Sequence[Verdict], samples: int) -> Verdict:
    for verdict in ("yes", "no"):
        if 2 * verdicts.count(verdict) > samples:
            return verdict
    return "unknown"


def _score(verdicts: dict[str, Verdict], listed: Sequence[Criterion]) -> int:
    whole = sum(criterion.weight for criterion in listed)
    got = sum(criterion.weight * VALUES[verdicts.get(criterion.id, "unknown")] for criterion in listed)
    return int(100 * got / whole + 0.5) if whole else 0


def cap(
    score: int, failing_required: Sequence[str], breaches: Sequence[str], threshold: int
) -> tuple[int, str]:
    """(score, what capped it). A result with new failures in a required gate, or with a broken contract,
    stays below the threshold whatever the judge says; `capped_by` is empty when nothing was taken away."""
    most = max(0, threshold - 1)
    if score <= most or not (failing_required or breaches):
        return score, ""
    by = f"gate {failing_required[0]}" if failing_required else f"contract {breaches[0]}"
    return most, clip(by)
