"""Says what a merge, a branch or a fixer's round has broken; every check reads the committed trees.

| kind | severity | what |
| --- | --- | --- |
| `conflict-marker` | hard | a marker that no parent had |
| `parse` | hard; escalate when a parent does not parse either | syntax |
| `one-parent` | hard | the file equals one parent though both changed it |
| `missing-symbol` | hard | function, class, method or type of both sides, or added by one, is gone |
| `missing-name` | escalate | variable or field, likewise |
| `duplicate` | hard | a definition hides an earlier one |
| `undefined-name` | hard | a name is used and nowhere bound |
| `stub` | hard when there was a body or the stub says so itself; else escalate | body without substance |
| `scaffold-stub` | hard | a stub of the scaffold commit is left in the task's own paths |
| `body-shrunk` | hard | a function lost code that had to stay |
| `test-deleted`, `test-skipped`, `test-emptied` | hard | |
| `test-loosened` | hard below half of the assertions; else escalate | fewer assertions, any exception accepted |
| `lines-vanished`, `hunk-lost` | escalate | lines of base and both sides, or one side's change, are gone |
| `file-deleted` | hard; escalate for changed by one and deleted by the other | |
| `mode` | hard | a file mode that no parent has |
| `locked` | hard | a file that was merged already was changed |
| `ownership` | hard for another task's paths, else escalate | |
| `junk`, `secret` | escalate (nested repository: hard) | generated, huge, binary, looks like a key |
"""

from swarmrun.merging.guards.branch import check_branch, check_round, locked_changed
from swarmrun.merging.guards.finding import Finding, Severity, Versions
from swarmrun.merging.guards.tree import check

__all__ = [
    "Finding",
    "Severity",
    "Versions",
    "check",
    "check_branch",
    "check_round",
    "locked_changed",
]
