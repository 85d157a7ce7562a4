"""A task's branch is merged after its run has ended: a parked one, say, once a human has edited it.

By the code that merges in a run: ladder, guards, gates in a sandbox, publishing. None of it is durable, and none
has to be: it takes a minute, and called again it goes on from what it finds. What is refused changes nothing but
the reason on the status.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

from swarmrun.activities import merging, publishing
from swarmrun.activities.world import RunWorld
from swarmrun.api.plan import Role, Task
from swarmrun.api.run import SwarmRun
from swarmrun.api.status import AgentPhase, MergedFile, MergeHow, MergeStatus, Phase, ResultStatus
from swarmrun.controller.projection import project
from swarmrun.errors import Conflict, NotFound
from swarmrun.local import handed
from swarmrun.local.directory import RunDirectory
from swarmrun.local.proving import Proof, findings, prove, sandbox
from swarmrun.local.runs import OnStatus
from swarmrun.local.world import ended
from swarmrun.orchestration.rerun import by_hand
from swarmrun.planning import graph
from swarmrun.report import AgentRecord
from swarmrun.steps import Merge, Merged, PublishResult, SaveReport

ROUND = 1000
"""Number of the gates' artifact of a merge by hand, far from those of fix rounds; the one before it has 1001."""
SHOWN = 20
"""Problems that a message names; a choice."""


@dataclass(frozen=True)
class Wanted:
    task: str
    source: str = ""
    """As `handed.find` takes it."""
    despite_findings: bool = False
    """Guards and contracts are heard, and do not stop it."""
    partial: bool = False
    """Publish although other tasks are not in the result."""


def merge(
    directory: RunDirectory, wanted: Wanted, on_status: OnStatus, tell: Callable[[str], None]
) -> SwarmRun:
    """Merges, proves and publishes; `tell` hears each step. Gives the resource with its new status.

    Raises NotFound, and Conflict with these reasons. `NotEnded`: the run is at work or can go on. `NoBranch`: a
    researcher's task. `MergeConflict`, `GuardsRefused`, `GatesRed`: not merged. `NotPublished`: merged, and what
    failed before fails still.
    """
    with ended(directory) as world:
        return _Remerge(directory, world, wanted, on_status, tell).work()


class _Remerge:
    def __init__(
        self,
        directory: RunDirectory,
        world: RunWorld,
        wanted: Wanted,
        on_status: OnStatus,
        tell: Callable[[str], None],
    ) -> None:
        self.directory, self.world, self.wanted = directory, world, wanted
        self.on_status, self.tell = on_status, tell
        self.report = directory.report()
        if self.report.plan is None:
            raise NotFound(f"run {self.report.name} has no plan, so there is nothing to merge")
        self.plan = world.plan(self.report.plan.artifact)
        self.task = graph.task(self.plan, wanted.task)
        if self.task.role is Role.RESEARCHER:
            raise Conflict(f"{self.task.id} is a researcher's: its notes are not merged", reason="NoBranch")
        self.record = self._recorded(self.task)
        self.command = f"swarmrun merge {directory.name} {self.task.id}"

    def work(self) -> SwarmRun:
        world, report, task = self.world, self.report, self.task
        own = self.record.status.commit
        head = handed.find(world.repo, world.remote, world.snapshot, task.id, own, self.wanted.source)
        self.tell(f"{task.id}  {head.source}, at {head.commit[:12]}")
        before = self._standing()
        if not world.repo.is_ancestor(head.commit, before):
            merged = self._merged(before, head)
            proof = self._proven(before, merged.commit)
            self._land(head, merged, proof)
        elif report.result and report.result.branch and report.result.commit == before:
            self.tell(f"{task.id}  is in the result, which is published")
            return self._saved()
        elif self.record.status.phase is not AgentPhase.MERGED:
            raise Conflict(
                f"{head.source} (at {head.commit[:12]}) holds nothing that is not in the result",
                mend=f"commit on it, then `{self.command} --from DIR`",
                reason="NoBranch",
            )
        else:
            self.tell(f"{task.id}  is in the result already")
            proof = self._proven(before, before)
            report.integration, report.gates = proof.commit, proof.gates
        self._publish(head, proof)
        return self._saved()

    # ------------------------------------------------------------ what there is

    def _recorded(self, task: Task) -> AgentRecord:
        try:
            return self.report.agent(task.id)
        except KeyError:
            raise NotFound(f"run {self.report.name} never came to task {task.id}") from None

    def _standing(self) -> str:
        """The commit to merge onto. What was published may stand one commit above the integration branch."""
        report, repo = self.report, self.world.repo
        repo.ensure(report.integration)
        result = report.result
        if result and result.branch and repo.is_ancestor(report.integration, result.commit):
            return result.commit
        return report.integration

    def _missing(self, *, but: str = "") -> list[str]:
        merged = {a.status.task for a in self.report.agents if a.status.phase is AgentPhase.MERGED}
        return [t.id for t in self.plan.tasks if t.id not in merged and t.id != but]

    # ------------------------------------------------------------ merging

    def _merged(self, before: str, head: handed.Branch) -> Merged:
        world, task = self.world, self.task
        try:
            world.repo.merge_base(before, head.commit)
        except NotFound as exc:
            raise Conflict(f"{head.source} has no commit in common with the run", reason="NoBranch") from exc
        world.repo.record(head.commit, self.report.base_commit)
        run = world.snapshot.run
        merged = merging.merge(world, Merge(run=run, integration=before, task=task.id, head=head.commit))
        if not merged.commit:
            rows = [
                f"{c['path']}: {c['kind']}" + (f" ({c['resolved']} merged)" if c["resolved"] else "")
                for c in world.get(merged.evidence)["conflicts"]
            ]
            self._refuse("MergeConflict", "it conflicts with the result", rows, merged.conflicts)
        self.tell(f"{task.id}  merged ({merged.how}); now the gates")
        objections = findings(world, task, before, head.commit, merged, self.record.status.commit)
        if objections and not self.wanted.despite_findings:
            self._refuse("GuardsRefused", "guards object", objections, despite=True)
        return merged.model_copy(update={"findings": objections})

    def _proven(self, before: str, commit: str) -> Proof:
        """Nothing may be worse than it was without the branch; whether all is well, publishing asks."""
        world, plan, task = self.world, self.plan, self.task.id
        with sandbox(world, f"merge-{task}", commit) as box:
            after = prove(world, box, commit, ROUND, plan, self._missing(but=task))
            wrong = self._wrong(after)
            if not wrong or commit == before:
                return after
            was = prove(world, box, before, ROUND + 1, plan, self._missing())
        worse = [w for w in wrong if w not in (*was.failures, *was.breaches)]
        if worse:
            why = "with it fails what did not fail before"
            self._refuse("GatesRed", why, worse, despite=not after.failures)
        return after

    def _wrong(self, proof: Proof) -> list[str]:
        return [*proof.failures, *([] if self.wanted.despite_findings else proof.breaches)]

    # ------------------------------------------------------------ what comes of it

    def _land(self, head: handed.Branch, merged: Merged, proof: Proof) -> None:
        report, status = self.report, self.record.status
        self._put(
            MergeStatus(
                task=self.task.id,
                how=MergeHow(merged.how),
                files=merged.files,
                commit=merged.commit,
                reason="; ".join(merged.findings)[:512],
            )
        )
        status.phase, status.commit, status.verified = AgentPhase.MERGED, head.commit, None
        status.reason, status.message = "", f"merged by hand, from {head.source}"[:512]
        self._note([f"merged by hand, from {head.source}; not judged again"])
        report.integration, report.gates = proof.commit, proof.gates
        report.stand = by_hand(report, self.task.id, head.commit, proof.commit)
        if report.result is None or not report.result.branch:
            report.result = ResultStatus(base_commit=report.base_commit, commit=proof.commit)
        report.message = self._left() or "all is merged, nothing is published yet"
        self._saved()

    def _publish(self, head: handed.Branch, proof: Proof) -> None:
        world, report, wanted = self.world, self.report, self.wanted
        left = self._left()
        if left and not (wanted.partial or world.snapshot.publish.partial):
            self.tell(f"{left}; nothing is published before (--partial does it all the same)")
            return
        wrong = self._wrong(proof)
        if wrong:
            report.reason = "GatesFailed" if proof.failures else "ContractsBroken"
            report.message = "; ".join(wrong)[:512]
            self._saved()
            raise Conflict(
                _listed(f"{self.task.id} is merged, but the result is not published", wrong),
                mend=f"mend it on a branch, then `{self.command} --from DIR`",
                reason="NotPublished",
            )
        saved = publishing.save_report(
            world, SaveReport(run=world.snapshot.run, report=report.model_dump(mode="json"))
        )
        done = publishing.publish(
            world,
            PublishResult(
                run=world.snapshot.run,
                commit=report.integration,
                base_branch=report.base_branch,
                base_commit=report.base_commit,
                report=saved.artifact,
                tasks={self.task.id: head.commit} if world.snapshot.publish.task_branches else {},
                partial="Incomplete" if left else "",
            ),
        )
        report.integration = done.commit
        report.result = ResultStatus(
            branch=done.branch,
            commit=done.commit,
            base_commit=report.base_commit,
            beside=done.beside,
            pull_request=done.pull_request,
        )
        report.phase = Phase.FAILED if left else Phase.SUCCEEDED
        report.reason = "Incomplete" if left else "Published"
        report.message = f"{left}; {done.message}" if left else done.message

    def _left(self) -> str:
        missing = self._missing()
        return f"not in the result: {', '.join(missing)}" if missing else ""

    def _refuse(
        self, reason: str, why: str, rows: list[str], files: Sequence[str] = (), *, despite: bool = False
    ) -> NoReturn:
        """Nothing is changed but what the status says of the branch. Raises Conflict."""
        if self.record.status.phase is not AgentPhase.MERGED:
            self._put(
                MergeStatus(
                    task=self.task.id,
                    how=MergeHow.PARKED,
                    files=[MergedFile(path=path, how=MergeHow.PARKED) for path in files],
                    reason=f"by hand: {why}: {'; '.join(rows)}"[:512],
                )
            )
            self._saved()
        mend = (
            f"`{self.command} --checkout DIR` gives it to you; edit, commit, then `{self.command} --from DIR`"
        )
        if despite:
            mend += "; or, where it is meant so, --despite-findings"
        raise Conflict(_listed(f"{self.task.id} is not merged: {why}", rows), mend=mend, reason=reason)

    def _put(self, status: MergeStatus) -> None:
        self.report.merges = [*(m for m in self.report.merges if m.task != status.task), status]

    def _note(self, texts: Sequence[str]) -> None:
        for text in texts:
            line = f"{self.task.id}: {text}"[:300]
            if line not in self.report.notes:
                self.report.notes = [*self.report.notes, line][-50:]

    def _saved(self) -> SwarmRun:
        previous = self.directory.status()
        status = project(self.report, {}, previous=previous, now=datetime.now(UTC))
        run = self.directory.resource().model_copy(update={"status": status})
        if status != previous:
            self.directory.save_report(self.report)
            self.directory.save_status(status)
            self.on_status(run)
        return run


def _listed(head: str, rows: Sequence[str]) -> str:
    more = [f"and {len(rows) - SHOWN} more"] if len(rows) > SHOWN else []
    return "\n  ".join([f"{head}:", *rows[:SHOWN], *more])
