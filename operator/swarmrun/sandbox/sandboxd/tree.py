"""Files of the work tree. No path leaves it, also not through a symbolic link."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from typing import Iterator, Tuple

from .failures import Failure, rejected

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Tree:
    """`lock` is held by whatever changes files or takes a picture of them."""

    def __init__(self, root: str) -> None:
        self.root = os.path.realpath(root)
        self.lock = threading.RLock()

    def check(self) -> None:
        """Raises when the root itself was removed or swapped for a link: git would follow it."""
        if os.path.islink(self.root) or not os.path.isdir(self.root):
            raise rejected("the repository's directory is gone or was replaced by a link; make it again")

    def restore(self) -> None:
        """Makes the root a directory again, without touching what a link in its place points to."""
        if os.path.islink(self.root) or (os.path.exists(self.root) and not os.path.isdir(self.root)):
            os.unlink(self.root)
        os.makedirs(self.root, exist_ok=True)

    def resolve(self, path: str, *, follow_last: bool = True) -> str:
        """The path below the root without any link in it (`.` for the root). Raises when it leaves the root."""
        if not isinstance(path, str) or "\0" in path:
            raise rejected("a path is text without NUL, relative to the repository")
        self.check()
        full = os.path.join(self.root, path)
        if follow_last:
            real = os.path.realpath(full)
        else:
            parent, last = os.path.split(os.path.normpath(full))
            real = os.path.join(os.path.realpath(parent), last)
        if real != self.root and not real.startswith(self.root + os.sep):
            raise rejected(f"{path}: outside the repository; give a path inside it")
        return os.path.relpath(real, self.root)

    @contextlib.contextmanager
    def _parent(self, relative: str, *, create: bool = False) -> Iterator[Tuple[int, str]]:
        """A descriptor of the directory that holds `relative`. Walked without following any link: whoever
        swaps a directory for a link after `resolve` gets an error, not another file."""
        *directories, name = relative.split(os.sep)
        fd = os.open(self.root, _DIRECTORY)
        try:
            for directory in directories:
                if create:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(directory, dir_fd=fd)
                inner = os.open(directory, _DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = inner
            yield fd, name
        except OSError as exc:
            if exc.errno in (errno.ELOOP, errno.ENOTDIR):
                raise rejected(f"{relative}: a part of this path is not a directory") from exc
            raise
        finally:
            os.close(fd)

    def read(self, path: str, max_bytes: int) -> bytes:
        relative = self.resolve(path)
        if relative == ".":
            raise rejected(f"{path}: is a directory; list it")
        try:
            with self._parent(relative) as (parent, name):
                # Not blocking: a FIFO would hold the worker for ever.
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
                with open(fd, "rb") as file:
                    status = os.fstat(fd)
                    if stat.S_ISDIR(status.st_mode):
                        raise rejected(f"{path}: is a directory; list it")
                    if not stat.S_ISREG(status.st_mode):
                        raise rejected(f"{path}: is not a regular file")
                    if status.st_size > max_bytes:
                        raise rejected(
                            f"{path}: has {status.st_size} bytes, {max_bytes} at most are read; "
                            "look at a part of it with a command (head, tail, sed -n)"
                        )
                    return file.read(max_bytes)
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise Failure("not-found", f"{path}: not found") from exc
        except IsADirectoryError as exc:
            raise rejected(f"{path}: is a directory; list it") from exc

    def write(self, path: str, content: bytes, mode: int | None) -> None:
        """Atomic: a reader sees the old file or the new one. An existing file keeps its mode."""
        relative = self._changeable(self.resolve(path), path)
        with self.lock, self._parent(relative, create=True) as (parent, name):
            wanted = mode
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=parent, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    raise rejected(f"{path}: is a directory; choose another name or delete it")
                if wanted is None and stat.S_ISREG(status.st_mode):
                    wanted = stat.S_IMODE(status.st_mode)
            draft = f".{name[:100]}.{os.getpid()}.{threading.get_ident():x}.swarmrun"
            fd = os.open(
                draft,
                os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
                0o666,
                dir_fd=parent,
            )
            try:
                with open(fd, "wb") as file:
                    file.write(content)
                    if wanted is not None:
                        os.fchmod(file.fileno(), wanted & 0o777)
                os.rename(draft, name, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(draft, dir_fd=parent)
                raise

    def delete(self, path: str) -> None:
        """A file, a link (not what it points to), or a directory with all that is in it."""
        relative = self._changeable(self.resolve(path, follow_last=False), path)
        try:
            with self.lock, self._parent(relative) as (parent, name):
                _remove(parent, name)
        except FileNotFoundError as exc:
            raise Failure("not-found", f"{path}: not found") from exc

    def move(self, source: str, target: str) -> None:
        """Within the tree; the target must not exist."""
        old = self._changeable(self.resolve(source, follow_last=False), source)
        new = self._changeable(self.resolve(target, follow_last=False), target)
        if os.path.lexists(os.path.join(self.root, new)):
            raise rejected(f"{target}: exists; delete it first or choose another name")
        if (new + os.sep).startswith(old + os.sep):
            raise rejected(f"{source}: cannot be moved into itself")
        if not os.path.lexists(os.path.join(self.root, old)):
            raise Failure("not-found", f"{source}: not found")
        with (
            self.lock,
            self._parent(old) as (old_dir, old_name),
            self._parent(new, create=True) as (
                new_dir,
                new_name,
            ),
        ):
            os.rename(old_name, new_name, src_dir_fd=old_dir, dst_dir_fd=new_dir)

    def _changeable(self, relative: str, path: str) -> str:
        if relative == ".":
            raise rejected(f"{path}: is the repository itself")
        if relative.split(os.sep)[0] == ".git":
            raise rejected(f"{path}: git's own files are changed by git commands only")
        return relative


def _remove(parent: int, name: str) -> None:
    """Recursive and without following links. shutil.rmtree takes `dir_fd` only from Python 3.11 on."""
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(name, dir_fd=parent)
        return
    os.chmod(name, 0o700, dir_fd=parent)
    fd = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        for inner in os.listdir(fd):
            _remove(fd, inner)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)
