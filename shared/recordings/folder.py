"""
Files of one folder, opened by names that come from outside.

What is opened lies within the folder and is a regular file, whatever the name says and whoever
changes the folder meanwhile: the path is resolved once, and then walked without following
anything.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from shared.errors import NotFound, Unavailable

_WALK = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: A named pipe is not waited for.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def within(folder: PurePosixPath, name: str) -> PurePosixPath | None:
    """
    *name* relative to *folder*: it is that, or absolute and inside. None for one that leads
    elsewhere, by its words alone. Pure.
    """
    if not name or "\x00" in name or "://" in name:
        return None
    path = PurePosixPath(name)
    if ".." in path.parts:
        return None
    if path.is_absolute():
        if not path.is_relative_to(folder):
            return None
        path = path.relative_to(folder)
    return path if path.parts else None


@dataclass(frozen=True, slots=True)
class RecordingFolder:
    """What a PBX has in place of an API; its files are opened by :func:`open_in`."""

    path: Path


def open_in(folder: Path, name: str) -> BinaryIO:
    """
    To be closed by the caller. Blocking, for ever where the folder is of a server that is gone.

    Raises: NotFound, with the same words for what is not there and what may not be opened;
    Unavailable where the folder itself, or a file in it, may not be read by us.
    """
    relative = within(PurePosixPath(folder), name)
    nothing = NotFound("The PBX's folder of recordings does not have this one.")
    if relative is None:
        raise nothing
    try:
        root = folder.resolve(strict=True)
        top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Unavailable(
            f"the folder of recordings cannot be read: {error.strerror}; is it mounted here?"
        ) from None
    try:
        # A link within the folder is fine, whatever it is called by.
        real = (root / relative).resolve(strict=True)
        return _opened(top, real.relative_to(root))
    except PermissionError:
        raise Unavailable(
            "the recording cannot be read: let the user that callmesh runs as read the PBX's files"
        ) from None
    except (OSError, ValueError, RuntimeError):
        raise nothing from None
    finally:
        os.close(top)


def _opened(top: int, path: Path) -> BinaryIO:
    """Raises: OSError, ValueError for what is no regular file."""
    *folders, last = path.parts or (".",)
    at = os.dup(top)
    try:
        for part in folders:
            inner = os.open(part, _WALK, dir_fd=at)
            os.close(at)
            at = inner
        found = os.open(last, _READ, dir_fd=at)
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise ValueError("no regular file")
    return os.fdopen(found, "rb")
