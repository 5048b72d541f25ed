"""Folders that others may write to as well: which of their files are whole, how these are read and put away, and how
a file of ours is written there.

Nothing about them is trusted: not their names, not their times, not that they are files.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: control characters, marks that turn text around, and bytes of a name that are no text
_ODD = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
#: most file systems refuse a longer name; the rest is for what is put before and after it
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Arrived:
    """A file that lies there. `at` = when it was last written, seconds since 1970; `ready` = it is whole."""

    name: str
    size: int
    at: float
    ready: bool

    @property
    def title(self) -> str:
        """Its name as people may read it and a database may keep it."""
        return title_of(self.name)


def title_of(name: str) -> str:
    """The name of a file without folders and characters that no text may hold."""
    return _ODD.sub("_", os.path.basename(name)).strip() or "file"


def arrived(folder: Path, endings: Sequence[str], *, settled: float, unended: float) -> list[Arrived]:
    """Files of a folder, the oldest first. Hidden and temporary names and everything but plain files are passed by.

    Whole is what nobody has written to for `settled` seconds, and for `unended` if its last line has no end: a
    transfer that stalled stops in the middle of one. Raises OSError.
    """
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith((".", "~")) or not entry.name.lower().endswith(tuple(endings)):
                continue
            try:
                if not entry.is_file(follow_symlinks=False):
                    continue
                state = entry.stat(follow_symlinks=False)
                # the time of the last change cannot be set back, that of the content can
                quiet = time.time() - max(state.st_mtime, state.st_ctime)
                ready = quiet >= settled and (quiet >= unended or _ends(folder, entry.name))
            except FileNotFoundError:  # whoever laid it, or another process of ours, took it away
                continue
            found.append(Arrived(entry.name, state.st_size, min(state.st_mtime, time.time()), ready))
    return sorted(found, key=lambda one: (one.at, one.name))


def _ends(folder: Path, name: str) -> bool:
    if name.lower().endswith(".xlsx"):
        return True
    with _open(folder, name) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 2))
        return bool(file.read().rstrip(b"\x00").endswith((b"\n", b"\r")))


def _open(folder: Path, name: str) -> Any:
    descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{title_of(name)} is no plain file")
    return os.fdopen(descriptor, "rb")


def read(folder: Path, one: Arrived, *, most: int, settled: float) -> bytes | None:
    """Its bytes, one more than `most` at most; None when it changed under our eyes. Raises OSError."""
    with _open(folder, one.name) as file:
        data = file.read(most + 1)
        after = os.fstat(file.fileno())
    whole = after.st_size == one.size and time.time() - max(after.st_mtime, after.st_ctime) >= settled
    return bytes(data) if whole else None


def write(path: Path, text: str, *, mode: int) -> None:
    """A file of ours in place of what lies there, whole and on the disk. Raises OSError.

    A link that somebody has laid under the name is never followed. Write under a name that nobody fetches, then rename.
    """
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def shelf_name(stamp: str, name: str) -> str:
    """`stamp-name`, cut at the front of the name so that every file system takes it and its ending stays."""
    short = os.fsencode(name)[-_LONGEST:]
    while short and 0x80 <= short[0] < 0xC0:  # never begin in the middle of a character
        short = short[1:]
    return f"{stamp}-{os.fsdecode(short)}"
