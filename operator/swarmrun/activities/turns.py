"""One model call, one tool call, one checkpoint: each stored under its key before it is returned."""

from __future__ import annotations

import os

from swarmrun.activities import briefs, checks
from swarmrun.activities.records import (
    StoredReply,
    StoredResult,
    key_of,
    store_reply,
    store_result,
    stored_reply,
    transcript,
)
from swarmrun.activities.saying import say_result, say_turn
from swarmrun.activities.world import BYTES_PER_TOKEN, RunWorld, reserve, reserve_money
from swarmrun.agents import guard, nudges, toolset
from swarmrun.agents.roles import RoleSpec, role
from swarmrun.agents.tool import ToolContext
from swarmrun.agents.transcript import BROKEN_AT, TOLD_AT, TurnRecord, assemble, repeated, size_of
from swarmrun.api.base import legible
from swarmrun.errors import BadModelOutput, NotFound
from swarmrun.observability.genai import tool_execution
from swarmrun.observability.previews import preview
from swarmrun.observability.secrets import held
from swarmrun.ports import CallKey, ModelRequest, Profile, ToolCall
from swarmrun.steps import (
    Call,
    Called,
    CallRef,
    CheckpointTaken,
    Finish,
    TakeCheckpoint,
    Turn,
    TurnDone,
)


def model_turn(world: RunWorld, given: Turn) -> TurnDone:
    key = key_of(given, given.turn)
    try:
        stored = stored_reply(world, key)
    except NotFound:
        stored, replayed = _asked(world, given, key), False
    else:
        replayed = True
    # Of a replayed turn, too: most often its sandbox is a new one, whose calls come next.
    say_turn(world, given.box, given, given.turn, stored)
    return _done(stored, given, replayed=replayed)


def _asked(world: RunWorld, given: Turn, key: CallKey) -> StoredReply:
    spec = role(given.role)
    tier, client = world.model(given.role)
    tools = toolset.specs(spec, client.profile, empty_repository=given.brief.empty)
    expected = toolset.names(spec, client.profile, empty_repository=given.brief.empty)
    guard.check_tools(tools, toolset.EXECUTABLE, expected=expected)
    told = [*_told(world, given, spec), *_failed_before(world, key)]
    instructions, prefix = briefs.opening(world, given)
    records = [*transcript(world, given, given.turn), TurnRecord(turn=given.turn, news=told)]
    messages = assemble(prefix, records, profile=client.profile, overhead=len(instructions) + len(str(tools)))
    request = ModelRequest(key=key, instructions=instructions, messages=messages, tools=tools)
    prompt = (size_of(messages) + len(instructions) + len(str(tools))) // BYTES_PER_TOKEN
    who = f"{given.role} {given.task}"
    reserve(prompt + client.profile.max_output, given.tokens_left, who)
    reserve_money(prompt, client.profile, tier.value, given.cost_left, who)
    try:
        reply = world.run(client.turn(request))
    except BadModelOutput as exc:
        world.store.put(f"{key.path()}/failed.txt", legible(exc.feedback).encode())
        raise
    usage = world.usage(given.role, reply.usage)
    return store_reply(world, key, reply, usage, given.news, told)


def _done(stored: StoredReply, given: Turn, *, replayed: bool) -> TurnDone:
    return TurnDone(
        calls=[
            CallRef(
                index=c.index,
                name=c.name,
                preview=_shown(c),
                read_only=c.name in toolset.READ_ONLY and not c.problem,
                ends=c.name in toolset.ENDS and not c.problem,
            )
            for c in stored.tool_calls()
        ],
        text=preview(stored.text, held(os.environ), 300),
        usage=stored.usage,
        notes=[*stored.notes, *(f"{c.name}: {c.problem}" for c in stored.tool_calls() if c.problem)],
        replayed=replayed,
        news_taken=stored.news == given.news,
    )


def _shown(call: ToolCall) -> str:
    """For status, transcript and history: a command may hold anything, a key too."""
    return preview(toolset.preview(call), held(os.environ))


def _told(world: RunWorld, given: Turn, spec: RoleSpec) -> list[str]:
    """The orchestration's news are codes and texts; the agent reads texts."""
    texts: list[str] = []
    for news in given.news:
        code, _, rest = news.partition(" ")
        if code == "@no-call":
            texts.append(nudges.without_call(spec, int(rest)))
        elif code == "@sandbox-replaced":
            texts.append(nudges.sandbox_replaced(setup=bool(world.snapshot.sandbox.setup)))
        else:
            texts.append(nudges.contract_changed(news))
    milestone = nudges.turns_left(given.turn, given.max_turns)
    return [*texts, *([milestone] if milestone else [])]


def _failed_before(world: RunWorld, key: CallKey) -> list[str]:
    try:
        return [nudges.failed_turn(world.text(f"{key.path()}/failed.txt"))]
    except NotFound:
        return []


# ---------------------------------------------------------------- tool calls


def tool_call(world: RunWorld, given: Call) -> Called:
    """Runs the call in the agent's own sandbox. What the model reads is what the first whole run gave."""
    key = key_of(given, given.turn)
    call = stored_reply(world, key).call(given.index)
    spec = role(given.role)
    _, client = world.model(given.role)
    count = _in_a_row(world, given, call)
    if given.poisoned:
        return _poisoned(world, given, key, call)
    if count >= BROKEN_AT:
        text, ok, changed = nudges.broken_off(call.name), False, False
        shown = _shown(call)
    else:
        # A model may call anything; what is counted and traced has a name of ours.
        name = call.name if call.name in toolset.EXECUTABLE else "unknown"
        with tool_execution(name, call.call_id, given.role) as answered:
            # Without a sandbox (the planner of an empty repository) the tool says what there is instead.
            box = world.box(given.box) if given.box else None
            generation = given.box.generation if given.box else 0
            outcome = world.run(
                toolset.execute(
                    call,
                    sandbox=box,
                    key=f"{key.path()}/{call.index}/g{generation}",
                    context=context(world, given, spec, client.profile),
                )
            )
            answered(outcome.ok)
        text, ok, changed, shown = outcome.text, outcome.ok, outcome.changed, _shown(call)
        if count >= TOLD_AT:
            text += "\n\n" + nudges.repeating(call.name, count - 1)
    stored = store_result(
        world,
        key,
        call.index,
        StoredResult(
            call_id=call.call_id,
            name=call.name,
            text=text,
            ok=ok,
            changed=changed,
            preview=shown,
            repeated=count,
        ),
    )
    say_result(world, given.box, call, stored)
    # What was done just now counts for the checkpoint, also when an earlier run's text stands.
    return Called(ok=ok, changed=changed, preview=shown, repeated=count, told=text)


def _in_a_row(world: RunWorld, given: Call, call: ToolCall) -> int:
    """How often the very same call was made in a row, this one included; those of its own turn count too."""
    reply = stored_reply(world, key_of(given, given.turn))
    records = [
        *transcript(world, given, given.turn),
        TurnRecord(turn=given.turn, messages=reply.messages),
    ]
    return repeated(records, call, turn=given.turn) + 1


def context(world: RunWorld, given: Call, spec: RoleSpec, profile: Profile) -> ToolContext:
    generation = given.box.generation if given.box else 0
    place = f"{key_of(given, given.turn).path()}/once-{given.index}-g{generation}"
    return ToolContext(
        role=spec,
        task=given.task,
        profile=profile,
        owned=briefs.owned(world, given),
        run_checks=checks.for_agent(world, given),
        once=lambda name, data: world.store.put_new(f"{place}/{name}", data),
    )


def _poisoned(world: RunWorld, given: Call, key: CallKey, call: ToolCall) -> Called:
    text = (
        f"{call.name} was not run again: it ended the sandbox twice (memory, processes or disk?). "
        "Do it in another way, in smaller steps."
    )
    stored = store_result(
        world,
        key,
        call.index,
        StoredResult(call_id=call.call_id, name=call.name, text=text, ok=False, preview=_shown(call)),
    )
    say_result(world, given.box, call, stored)
    return Called(ok=False, preview=_shown(call), told=text)


# ---------------------------------------------------------------- checkpoints


def checkpoint(world: RunWorld, given: TakeCheckpoint) -> CheckpointTaken:
    return take_checkpoint(world, given, since=given.since, what=f"turn {given.turn}")


def take_checkpoint(
    world: RunWorld, given: TakeCheckpoint | Finish, *, since: str, what: str
) -> CheckpointTaken:
    """The work tree as a commit that the brain holds. What the sandbox says of it is checked when it is taken in."""
    assert given.box is not None
    box = world.box(given.box)
    taken = world.run(box.checkpoint(since=since, message=f"{given.task}: {what}"))
    if not taken.changed:
        return CheckpointTaken(commit=since, changed=False)
    world.repo.keep_bundle(taken.bundle, commit=taken.commit, since=[since])
    return CheckpointTaken(commit=taken.commit, changed=True)
