"""One agent, turn by turn: model call, tool calls, checkpoint; until it finishes, fails or is stopped.

Durable at the turn. A lost sandbox is replaced under the next generation from the last checkpoint, and every
turn since is replayed: stored replies are not paid again, their tool calls run again.
"""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import Any

from durabletask import task

from swarmrun.observability.previews import previewed
from swarmrun.orchestration import budget, unreadable
from swarmrun.orchestration.flow import Host, Orchestration, Until, Work, drive
from swarmrun.orchestration.inputs import AgentInput, AgentResult, add_usage
from swarmrun.orchestration.mail import EVENT, Mail, Stopped
from swarmrun.orchestration.perform import (
    begin,
    perform,
    perform_all,
    read,
    told,
    wait_before_retry,
    waiting,
)
from swarmrun.orchestration.previews import of_agent, of_result
from swarmrun.orchestration.sandboxes import SandboxFailed, provide
from swarmrun.report import AgentProgress
from swarmrun.steps import (
    CHECKPOINT,
    FINISH,
    GONE,
    MODEL_TURN,
    TOOL_CALL,
    Call,
    Called,
    CallRef,
    CheckpointTaken,
    Failed,
    Finish,
    Finished,
    Result,
    TakeCheckpoint,
    Turn,
    TurnDone,
)

NAME = "agent"
LIFE = 20
"""Turns before it continues as new: a step costs 3.8 ms at 50 history events and 7 ms at 200."""
NUDGES = 2
"""Times a text without a call, or an empty diff, is answered by a nudge before the attempt fails."""
BREAK_OFF = 5
"""Identical calls in a row after which the attempt ends; at three the model is told. A choice."""
POISONED = 2
"""Sandboxes that one call may end; then it is told as an error instead of being run again. A choice."""
MAX_LOSSES = 6
"""Sandboxes one attempt may use up. A choice: more says that the machine is not fit for work."""
LAST_CHECKPOINT = timedelta(seconds=10)
"""How long an attempt that ends waits for the checkpoint under way: less than the run's grace."""
REPLACED = "@sandbox-replaced"
NO_CALL = "@no-call"
# News that are codes; `activities.turns` has the words.


class AttemptFailed(Exception):
    """The attempt is over; `reason` goes to the status."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class ContinueAsNew(Exception):
    """Not an error: the history is long enough."""


def agent(ctx: task.OrchestrationContext, given: Any) -> Orchestration[dict[str, Any] | None]:
    """The orchestration that is registered. Always returns a value, whatever happens."""
    s = AgentInput.model_validate(given)
    life = Life(ctx, s)
    life.take_up()
    try:
        if s.unreadable:
            raise AttemptFailed(unreadable.REASON, s.unreadable)
        result = yield from drive(life, life.work())
    except ContinueAsNew:
        s.mail = life.mail.close()
        ctx.continue_as_new(previewed(of_agent(s), s.model_dump(mode="json")), save_events=True)
        return None
    except Stopped as stop:
        yield from life.last_checkpoint()
        status = "Cancelled" if stop.reason == "Cancelled" else "Failed"
        result = life.result(status, stop.reason, stop.message)
    except AttemptFailed as failed:
        yield from life.last_checkpoint()
        result = life.result("Failed", failed.reason, failed.message)
    except SandboxFailed as failed:
        result = life.result("Failed", failed.reason, failed.message)
        result.final = failed.final
    end, preview = result.model_dump(mode="json"), of_result(result)
    told = {"kind": "ended", "agent": ctx.instance_id, "serial": s.serial, "result": end}
    # Beside returning it: a run that began a new life is not waited upon by the engine any more.
    ctx.send_event(s.run, EVENT, data=previewed(preview, told))
    return previewed(preview, end)


class Life(Host):
    """The turns between two continue-as-new. `s` is all there is to carry."""

    def __init__(self, ctx: task.OrchestrationContext, s: AgentInput) -> None:
        super().__init__(Mail(ctx, s.mail))
        self.ctx, self.s = ctx, s
        self.first_turn = s.turn
        self.phase, self.message = "Starting", ""
        self.pending: task.Task[Any] | None = None
        """A checkpoint under way beside the next model call."""
        self.pending_turn = 0

    def take_up(self) -> None:
        """A checkpoint that was under way when another program was at work here is taken now."""
        s = self.s
        if s.unsettled and s.box and s.ready:
            self.start_checkpoint(s.unsettled)
        s.unsettled = 0

    # ------------------------------------------------------------ the loop

    def work(self) -> Work[AgentResult]:
        s = self.s
        while True:
            self.show("Running")
            if self.mail.suspended:
                self.show("Suspended")
                yield Until(lambda: not self.mail.suspended)
            s.news += self.mail.news
            self.mail.news = []
            if s.turn > s.max_turns:
                raise AttemptFailed("TurnsExhausted", f"not finished after {s.max_turns} turns")
            if s.turn - self.first_turn >= LIFE:
                if (yield from self.settle_checkpoint()):
                    raise ContinueAsNew
                continue
            if s.box and not s.ready:
                yield from self.provide_sandbox()
            reply = yield from self.model_turn()
            if not (yield from self.settle_checkpoint()):
                continue
            ended = yield from self.act(reply)
            if ended is not None:
                return ended

    def model_turn(self) -> Work[TurnDone]:
        s = self.s
        left = budget.left(budget.Allowance(s.tokens, s.cost), s.usage)
        result: Result[TurnDone] = yield from perform(
            self.ctx,
            MODEL_TURN,
            Turn(
                **self.me(),
                turn=s.turn,
                brief=s.brief,
                box=s.box,
                max_turns=s.max_turns,
                tokens_left=left.tokens,
                cost_left=left.cost,
                news=s.news,
            ),
            self.on_wait,
        )
        if result.failed:
            self.charge(result.failed)
            raise AttemptFailed(result.failed.reason, told(result.failed))
        assert result.ok
        if s.turn > s.counted_turn:
            # A replayed turn is paid and was asked with the news of its time.
            s.usage = add_usage(s.usage, result.ok.usage)
            for text in result.ok.notes:
                self.note(text)
            if result.ok.news_taken:
                s.news = []
            s.counted_turn = s.turn
        return result.ok

    def act(self, reply: TurnDone) -> Work[AgentResult | None]:
        """Runs the turn's calls: reads side by side, everything else in the order given, the end last."""
        s = self.s
        if not reply.calls:
            return (yield from self.without_call())
        changed = False
        for group in groups([c for c in reply.calls if not c.ends]):
            s.last_tool = group[-1].preview or group[-1].name
            self.show("Running")
            results: list[Result[Called]] = yield from perform_all(
                self.ctx, TOOL_CALL, [self.call(c) for c in group], self.on_wait
            )
            for ref, result in zip(group, results, strict=True):
                if result.failed:
                    self.lost_or_raise(result.failed, ref.index)
                    return None
                assert result.ok
                changed = changed or result.ok.changed
                if result.ok.repeated >= BREAK_OFF:
                    raise AttemptFailed(
                        "RepeatedCalls",
                        f"{ref.preview or ref.name} was called {result.ok.repeated} times in a row",
                    )
        self.count_calls(len(reply.calls))
        ends = [c for c in reply.calls if c.ends]
        if ends:
            s.last_tool = ends[0].name
            return (yield from self.finish(ends[0].index, changed))
        self.next_turn(changed)
        return None

    def without_call(self) -> Work[AgentResult | None]:
        s = self.s
        if s.nudges >= NUDGES:
            return (yield from self.finish(-1, False))
        s.nudges += 1
        s.news.append(f"{NO_CALL} {s.nudges}")
        self.next_turn(False)
        return None

    def next_turn(self, changed: bool) -> None:
        """`changed`: the work tree differs from the last checkpoint, and a new one is begun."""
        s = self.s
        if changed and s.box:
            self.start_checkpoint(s.turn)
        else:
            s.checkpoint_turn = s.turn
        s.turn += 1

    # ------------------------------------------------------------ the end

    def finish(self, index: int, changed: bool) -> Work[AgentResult | None]:
        s = self.s
        last = index < 0 or s.refusals + 1 >= s.refusals_allowed
        self.show("Finishing")
        result: Result[Finished] = yield from perform(
            self.ctx,
            FINISH,
            Finish(
                **self.me(),
                turn=s.turn,
                index=index,
                brief=s.brief,
                box=s.box,
                since=s.checkpoint or s.brief.base,
                refusals=s.refusals,
                final=last and s.unverified_goes_on,
            ),
            self.on_wait,
        )
        if result.failed:
            self.lost_or_raise(result.failed, index)
            return None
        assert result.ok
        end = result.ok
        if end.checkpoint:
            s.checkpoint, changed = end.checkpoint, False
        if end.empty and s.guards:
            s.empties += 1
            if index < 0 or s.empties > NUDGES:
                raise AttemptFailed(
                    "PhantomAgent",
                    f"it claims to be done after {s.tool_calls} tool calls, but its diff is empty",
                )
        elif end.accepted:
            return self.finished(end)
        else:
            s.refusals += 1
            s.refused = [*s.refused, *end.problems][:20]
            if index < 0:
                raise AttemptFailed("NoFinish", "it stopped calling tools without finishing")
            if last:
                raise AttemptFailed("Refused", "; ".join(end.problems) or "its result was refused")
        self.next_turn(changed)
        return None

    def finished(self, end: Finished) -> AgentResult:
        result = self.result("Finished", "", "; ".join(end.problems))
        result.commit = end.commit
        result.verified = end.verified
        result.summary = end.summary
        result.blocked = end.blocked
        result.contract_issues = end.contract_issues
        result.plan = end.plan
        return result

    def result(self, status: str, reason: str, message: str) -> AgentResult:
        s = self.s
        return AgentResult(
            status=status,
            reason=reason,
            message=message[:2000],
            # An attempt that did nothing does not hide what an earlier one made.
            checkpoint="" if s.checkpoint == s.brief.base else s.checkpoint,
            turns=s.turn if status == "Finished" else max(0, s.turn - 1),
            tool_calls=s.tool_calls,
            generation=s.box.generation if s.box else 1,
            usage=s.usage,
            refused=s.refused,
            notes=s.notes,
        )

    # ------------------------------------------------------------ sandbox and checkpoints

    def provide_sandbox(self) -> Work[None]:
        s = self.s
        assert s.box
        self.show("Starting")
        provided = yield from provide(
            self.ctx,
            s.box,
            commit=s.checkpoint or s.brief.base,
            branch=s.branch,
            head=s.brief.ours,
            clone_of=s.clone_of,
            setup=s.setup,
            on_wait=self.on_wait,
        )
        s.box, s.ready = provided.box, True

    def start_checkpoint(self, turn: int) -> None:
        self.pending = begin(self.ctx, CHECKPOINT, self.checkpoint_of(turn))
        self.pending_turn = turn

    def checkpoint_of(self, turn: int) -> TakeCheckpoint:
        s = self.s
        assert s.box
        return TakeCheckpoint(**self.me(), turn=turn, box=s.box, since=s.checkpoint or s.brief.base)

    def settle_checkpoint(self) -> Work[bool]:
        """Waits for the checkpoint under way. False: the sandbox was lost, the turns since are replayed."""
        s = self.s
        if self.pending is None:
            return True
        yield self.pending
        result = read(CHECKPOINT, self.pending)
        self.pending = None
        if result.failed and wait_before_retry(result.failed, 1) is not None:
            result = yield from perform(
                self.ctx, CHECKPOINT, self.checkpoint_of(self.pending_turn), self.on_wait
            )
        if result.failed:
            self.lost_or_raise(result.failed, -1)
            return False
        taken: CheckpointTaken | None = result.ok
        assert taken
        s.checkpoint, s.checkpoint_turn = taken.commit, self.pending_turn
        return True

    def last_checkpoint(self) -> Generator[task.Task[Any], Any, None]:
        """What the last turn wrote is kept, when the attempt ends while its checkpoint is under way."""
        pending, self.pending = self.pending, None
        if pending is None:
            return
        patience = self.ctx.create_timer(LAST_CHECKPOINT)
        yield task.when_any([pending, patience])
        if pending.is_complete:
            patience.cancel()
            taken = read(CHECKPOINT, pending).ok
            self.s.checkpoint = taken.commit if taken else self.s.checkpoint

    def lost_or_raise(self, failed: Failed, index: int) -> None:
        """A lost sandbox: next generation, back to the turn after the last checkpoint."""
        s = self.s
        if not failed.lost or s.box is None:
            raise AttemptFailed(failed.reason, told(failed))
        if failed.reason != GONE:
            place = f"{s.turn}/{index}"
            s.losses[place] = s.losses.get(place, 0) + 1
            # Generations begin at 1 in each attempt: without it the next one's loss would pass for this one.
            which = f"sandbox {s.box.generation} of attempt {s.attempt}"
            self.note(f"{which} was lost: {failed.reason}: {failed.message}")
            if sum(s.losses.values()) > MAX_LOSSES:
                raise AttemptFailed("SandboxLost", f"{MAX_LOSSES} sandboxes were lost: {failed.message}")
        s.box = s.box.model_copy(update={"generation": s.box.generation + 1})
        s.ready = False
        s.clone_of = ""
        if REPLACED not in s.news:
            s.news.append(REPLACED)
        s.turn = min(s.turn, s.checkpoint_turn + 1)

    # ------------------------------------------------------------ small helpers

    def me(self) -> dict[str, Any]:
        s = self.s
        return {"run": s.run, "role": s.role, "task": s.task, "attempt": s.attempt}

    def call(self, ref: CallRef) -> Call:
        s = self.s
        return Call(
            **self.me(),
            turn=s.turn,
            index=ref.index,
            brief=s.brief,
            box=s.box,
            poisoned=s.losses.get(f"{s.turn}/{ref.index}", 0) >= POISONED,
            shown=ref.preview or ref.name,
        )

    def count_calls(self, number: int) -> None:
        """Once a turn, however often it is replayed."""
        s = self.s
        if s.turn > s.counted_calls_turn:
            s.tool_calls += number
            s.counted_calls_turn = s.turn

    def charge(self, failed: Failed) -> None:
        """A useless answer is paid for all the same."""
        if failed.usage is not None:
            self.s.usage = add_usage(self.s.usage, failed.usage)

    def note(self, text: str) -> None:
        s = self.s
        if text[:300] not in s.notes:
            s.notes = [*s.notes, text[:300]][:20]

    def on_wait(self, step: str, pause: float, failed: Failed) -> None:
        self.charge(failed)
        self.note(f"waited {pause:g} s: {failed.reason}")
        self.show("Waiting", waiting(step, pause, failed))

    def show(self, phase: str, message: str = "") -> None:
        self.phase, self.message = phase, message

    def settled(self) -> None:
        """What it said in an earlier dispatch stands already: a replay would only say it again."""
        s = self.s
        if self.ctx.is_replaying:
            return
        self.ctx.set_custom_status(
            AgentProgress(
                phase=self.phase,
                turns=s.turn,
                tool_calls=s.tool_calls,
                tokens=sum(u.total for u in s.usage),
                last_tool=s.last_tool[:200],
                message=self.message[:500],
                generation=s.box.generation if s.box else 1,
                usage=s.usage,
                stand=self.stand(),
            ).model_dump(mode="json")
        )

    def stand(self) -> dict[str, Any]:
        """What a program that takes this over begins with. `s` itself stays: this is not called in a replay."""
        unsettled = self.pending_turn if self.pending is not None else 0
        s = self.s.model_copy(update={"mail": self.mail.state(), "unsettled": unsettled})
        return s.model_dump(mode="json", exclude_defaults=True)


def groups(calls: list[CallRef]) -> list[list[CallRef]]:
    """Neighbouring reads together, everything else by itself (two edits raced when gathered). Pure."""
    out: list[list[CallRef]] = []
    for call in calls:
        if call.read_only and out and out[-1][0].read_only:
            out[-1].append(call)
        else:
            out.append([call])
    return out
