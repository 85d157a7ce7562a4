"""Texts that an agent is told between its turns. Appended as news, never inserted."""

from __future__ import annotations

from collections.abc import Sequence

from swarmrun.agents.roles import RoleSpec

NUDGES = 2
"""Answers without a call that are put up with; the design's number."""
MILESTONES = (50, 80, 95)
"""Percent of its turns at which an agent is told what is left; the design's numbers."""


def without_call(role: RoleSpec, number: int) -> str:
    """`number` of at most `NUDGES`, from 1: the answer held text and no call."""
    end = f"`{role.ends_by}`"
    if number < NUDGES:
        return (
            "Your answer called no tool, so nothing happened. Go on with the work by calling tools; "
            f"when it is done, call {end}. Text alone ends nothing."
        )
    return (
        f"Again no tool was called. Call a tool now: {end} if everything holds, or the next step if not. "
        "One more answer without a call ends your work as it stands."
    )


def turns_left(turn: int, max_turns: int) -> str:
    """What an agent is told before `turn` (from 1); empty unless a milestone has just been passed."""
    used, before = (turn - 1) * 100 / max_turns, (turn - 2) * 100 / max_turns
    passed = [m for m in MILESTONES if before < m <= used]
    if not passed:
        return ""
    left = max_turns - turn + 1
    turns = f"{left} turn{'s' if left != 1 else ''}"
    if passed[-1] >= MILESTONES[-1]:
        return f"{turns} left of {max_turns}. Stop exploring: leave the tree in a state that runs, and call finish."
    if passed[-1] >= MILESTONES[1]:
        return (
            f"{turns} left of {max_turns}. Start nothing new: mend what is broken, run the checks, finish. "
            "What is not done goes into the summary."
        )
    return f"{turns} left of {max_turns}. Weigh what is still open, and do the part that counts first."


def sandbox_replaced(*, setup: bool) -> str:
    """The sandbox died and was made again from the last checkpoint."""
    again = " The set-up commands ran again." if setup else ""
    return (
        "Your sandbox was replaced. The work tree is as it was after your last finished turn; files that git "
        "ignores, /tmp, installed packages and running processes are gone."
        + again
        + " Start again what you need."
    )


def empty_diff(role: RoleSpec) -> str:
    """A role that must write ended with nothing written."""
    what = f"its notes ({', '.join(role.writes)})" if role.writes else "code in the repository"
    return (
        f"Nothing has changed in the work tree: the diff of your branch is empty. A {role.name} must write {what}. "
        "Saying that files were written does not write them: call the tools, check with `git status` where you "
        "can, then finish."
        if "exec" in role.tools
        else f"Nothing has changed in the work tree. A {role.name} must write {what}: call write_file, then finish."
    )


def contract_changed(news: str) -> str:
    """An amendment that holds from now on."""
    return (
        "A contract was changed while you work. What follows replaces what you were given before; bring your work "
        f"in line with it.\n\n{news.strip()}"
    )


def budget_low(percent_left: int) -> str:
    """Tokens or money of this agent run out before its turns do."""
    return (
        f"About {percent_left} % of your budget is left. Finish what is begun, run the checks, call finish; read "
        "only what you must."
    )


def repeating(name: str, count: int) -> str:
    """The very same call, `count` times before in a row. Stands behind the call's result."""
    return (
        f"You have made this same {name} call {count + 1} times in a row, and its result is the same. Repeating it "
        "will not help: read the result, change something, or finish with `blocked`."
    )


def broken_off(name: str) -> str:
    """Result of a call that is not run any more."""
    return f"{name} was not run: the same call was repeated too often, and this attempt is broken off."


def failed_turn(problem: str) -> str:
    """The last answer could not be used (cut off, filtered, empty) and is not part of the conversation."""
    return (
        f"Your last answer could not be used: {problem.strip().rstrip('.')}. Answer again, shorter: one step, with "
        "complete calls; write long files in several calls."
    )


def retry_fresh(reason: str, problems: Sequence[str] = ()) -> str:
    """For the first message of a fresh attempt."""
    rows = "".join(f"\n- {p}" for p in problems)
    return (
        f"An earlier attempt at this task failed: {reason.strip()}{rows}\nStart afresh and do not repeat it."
    )
