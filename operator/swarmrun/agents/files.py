"""Looking at files and putting them in their place: read, search, list, write, delete, move."""

from __future__ import annotations

from pydantic import Field

from swarmrun.agents.lines import decode, encode, new_syntax_errors, numbered, split
from swarmrun.agents.tool import Arguments, Hands, Tool, ToolOutcome
from swarmrun.agents.tree import clean, note_outside, read_before, refuse_foreign
from swarmrun.errors import NotFound, ToolRejected

MAX_READ = 60_000
"""Characters of one read_file result. Arbitrary: 400 long lines, and about 15,000 tokens."""
MAX_SEARCH = 20_000
"""Characters of one search result. Arbitrary."""


class ReadFile(Arguments):
    path: str = Field(description="File, relative to the repository.")
    start: int = Field(default=1, ge=1, description="First line.")
    limit: int = Field(default=400, ge=1, le=2000, description="Lines at most.")


async def read_file(arguments: ReadFile, hands: Hands) -> ToolOutcome:
    try:
        data = await hands.sandbox.read(arguments.path)
    except NotFound as exc:
        raise NotFound(exc.message, mend="look with list_files or search") from exc
    if b"\0" in data[:8000]:
        raise ToolRejected(
            f"{arguments.path} is binary ({len(data)} bytes): look at it with exec, e.g. `file`"
        )
    lines = split(decode(data))
    if not lines:
        return ToolOutcome(f"[{arguments.path} is empty]")
    if arguments.start > len(lines):
        raise ToolRejected(
            f"{arguments.path} has {len(lines)} lines; there is no line {arguments.start}. "
            f"Read from start={max(len(lines) - arguments.limit + 1, 1)}"
        )
    rows: list[str] = []
    size = 0
    for row in numbered(lines, arguments.start, arguments.start + arguments.limit - 1):
        size += len(row) + 1
        if size > MAX_READ and rows:
            break
        rows.append(row)
    last = arguments.start + len(rows) - 1
    if arguments.start > 1 or last < len(lines):
        more = f"; next start={last + 1}" if last < len(lines) else ""
        rows.append(f"[lines {arguments.start}-{last} of {len(lines)}{more}]")
    return ToolOutcome("\n".join(rows))


class Search(Arguments):
    pattern: str = Field(min_length=1, description="Regular expression.")
    path: str = Field(default=".", description="File or directory to search in.")
    glob: str = Field(default="", description="Only files whose name fits, e.g. `*.py`.")
    context: int = Field(default=0, ge=0, le=10, description="Lines shown around each match.")
    max: int = Field(default=50, ge=1, le=500, description="Matches at most.")


async def search(arguments: Search, hands: Hands) -> ToolOutcome:
    found, total = await hands.sandbox.search(
        arguments.pattern,
        path=arguments.path,
        glob=arguments.glob,
        context=arguments.context,
        max_matches=arguments.max,
    )
    if not total:
        return ToolOutcome("no match; try a shorter pattern, another path or no glob")
    rows: list[str] = []
    size = 0
    for row in found:
        size += len(row) + 1
        if size > MAX_SEARCH and rows:
            rows.append("[cut: the rows are long; narrow path or glob, or lower context]")
            break
        rows.append(row)
    if total > arguments.max:
        rows.append(f"[{arguments.max} of {total}; narrow path or glob]")
    return ToolOutcome("\n".join(rows))


class ListFiles(Arguments):
    path: str = Field(default=".", description="Directory.")
    depth: int = Field(default=2, ge=1, le=10)
    glob: str = Field(
        default="", description="Only entries that fit, e.g. `**/*.py`; depth does not count then."
    )


async def list_files(arguments: ListFiles, hands: Hands) -> ToolOutcome:
    entries, total = await hands.sandbox.list(
        arguments.path, depth=arguments.depth, glob=arguments.glob, max_entries=500
    )
    if not total:
        what = f"nothing fits {arguments.glob!r} in" if arguments.glob else "no files in"
        return ToolOutcome(f"{what} {arguments.path}")
    rows = list(entries)
    if total > len(rows):
        rows.append(f"[{len(rows)} of {total}; narrow path, depth or glob]")
    return ToolOutcome("\n".join(rows))


class WriteFile(Arguments):
    path: str = Field(description="File, relative to the repository; directories are made.")
    content: str = Field(description="The whole file.")
    overwrite: bool = Field(default=False, description="Replace the file when it exists.")


async def write_file(arguments: WriteFile, hands: Hands) -> ToolOutcome:
    refuse_foreign(arguments.path, hands)
    try:
        before = await read_before(arguments.path, hands)
        existed = True
    except NotFound:
        before, existed = b"", False
    # An empty file (`__init__.py`, a scaffold's placeholder) has nothing to lose.
    if before and not arguments.overwrite:
        count = len(split(decode(before)))
        raise ToolRejected(
            f"{arguments.path} exists ({count} lines): use {hands.context.profile.edit_tool} or overwrite=true"
        )
    content = encode(arguments.content)
    await hands.sandbox.write(arguments.path, content, key=hands.key)
    count = len(split(arguments.content))
    parts = [
        f"{arguments.path}: {'replaced' if existed else 'written'}, {count} lines.",
        new_syntax_errors(arguments.path, before, content),
        note_outside([arguments.path], hands),
    ]
    return ToolOutcome("\n".join(p for p in parts if p), changed=True)


class DeletePath(Arguments):
    path: str = Field(description="File or directory.")


async def delete_path(arguments: DeletePath, hands: Hands) -> ToolOutcome:
    refuse_foreign(arguments.path, hands)
    try:
        await hands.sandbox.delete(arguments.path, key=hands.key)
    except NotFound as exc:
        raise NotFound(exc.message, mend="look with list_files") from exc
    parts = [f"{clean(arguments.path)}: deleted.", note_outside([arguments.path], hands)]
    return ToolOutcome("\n".join(p for p in parts if p), changed=True)


class MovePath(Arguments):
    source: str = Field(alias="from", description="File or directory.")
    to: str = Field(description="Its new path, which must not exist.")


async def move_path(arguments: MovePath, hands: Hands) -> ToolOutcome:
    refuse_foreign(arguments.source, hands)
    refuse_foreign(arguments.to, hands)
    try:
        await hands.sandbox.move(arguments.source, arguments.to, key=hands.key)
    except NotFound as exc:
        raise NotFound(exc.message, mend="look with list_files") from exc
    parts = [
        f"{clean(arguments.source)} is now {clean(arguments.to)}. Imports and references still name the old path: "
        "search for them.",
        note_outside([arguments.source, arguments.to], hands),
    ]
    return ToolOutcome("\n".join(p for p in parts if p), changed=True)


TOOLS = (
    Tool(
        "read_file",
        "Read a text file; lines are numbered `L12: …`.",
        ReadFile,
        read_file,
        lambda a: str(a.get("path", "")) + (f" from {a['start']}" if a.get("start") else ""),
    ),
    Tool(
        "search",
        "Search the repository's files (ignored ones left out) for a regular expression.",
        Search,
        search,
        lambda a: f"{a.get('pattern', '')!r} {a.get('path', '')} {a.get('glob', '')}",
    ),
    Tool(
        "list_files",
        "List files and directories (ignored ones left out).",
        ListFiles,
        list_files,
        lambda a: f"{a.get('path', '.')} {a.get('glob', '')}",
    ),
    Tool(
        "write_file",
        "Write a whole new file; for a change in an existing one prefer the editing tool.",
        WriteFile,
        write_file,
        lambda a: str(a.get("path", "")),
    ),
    Tool(
        "delete_path",
        "Delete a file or directory.",
        DeletePath,
        delete_path,
        lambda a: str(a.get("path", "")),
    ),
    Tool(
        "move_path",
        "Move or rename a file or directory.",
        MovePath,
        move_path,
        lambda a: f"{a.get('from', '')} to {a.get('to', '')}",
    ),
)
