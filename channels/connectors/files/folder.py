"""The folder of an account: `in` is watched, `out` is fetched from, `done` and `failed` keep what was worked off.

Files of ours are written in `.work`, which nobody else may write to, and appear in `out` by one rename: a partner never
sees half a file, and a link that a partner has laid is never followed. What is remembered between files (figures shown,
listings, parcels told) stands in `.work` as well; a killed process finds there how far it came.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from oms.core import arrivals
from oms.core.arrivals import Arrived
from oms.core.errors import UserError
from oms.core.uploads import MAX_BYTES

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}\Z")
ENDINGS = (".csv", ".txt", ".tsv", ".xlsx")
#: a file is whole when nothing was written to it for so many seconds, and much longer if its last line has no end
SETTLED, UNENDED = 15.0, 300.0
KEPT_DAYS = 30


class Busy(Exception):
    """Another process works on the folder at this moment."""


@dataclass(frozen=True, slots=True)
class Folder:
    """One account's folders below OMS_HOME/channels/. Every method raises OSError when the disk does."""

    name: str

    @property
    def root(self) -> Path:
        if not NAME.match(self.name):
            raise UserError("folder: write lower case letters, digits and hyphens.", field="folder")
        return Path(settings.HOME) / "channels" / self.name

    def ensure(self) -> None:
        """Make what is missing. The working folder is ours alone."""
        for part in ("in", "out", "done", "failed"):
            (self.root / part).mkdir(parents=True, exist_ok=True, mode=0o770)
        for part in (".work", ".work/told"):
            (self.root / part).mkdir(parents=True, exist_ok=True, mode=0o700)

    def claim(self, account_id: int) -> None:
        """One account per folder. Raises `UserError` when it is another's."""
        mark = self.root / ".work" / "account"
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(str(account_id))
        owner = mark.read_text().strip()
        if owner != str(account_id):
            raise UserError(
                f"folder: '{self.name}' belongs to another channel; choose another name.", field="folder"
            )

    @contextlib.contextmanager
    def locked(self, what: str = "lock") -> Iterator[None]:
        """Alone on the folder, over all processes of the machine. Raises `Busy`, it does not wait."""
        self.ensure()
        descriptor = os.open(self.root / ".work" / what, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Busy(f"another process works on the folder '{self.name}'") from error
            yield
        finally:
            os.close(descriptor)

    def try_out(self, part: str) -> bool:
        """Write a file, move it into one of the folders, read it there and remove it: what every exchange needs."""
        self._write("test.part", "test")
        target = self.root / part / ".test"
        os.replace(self.root / ".work" / "test.part", target)
        descriptor = os.open(target, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            same = file.read() == b"test"
        os.unlink(target)
        return same

    # --- in ----------------------------------------------------------------------------------------
    def arrived(self) -> list[Arrived]:
        """Files in `in`, the oldest first. Hidden and temporary names and everything but plain files are passed by."""
        self.ensure()
        return arrivals.arrived(self.root / "in", ENDINGS, settled=SETTLED, unended=UNENDED)

    def read(self, one: Arrived) -> bytes | None:
        """Its bytes, one more than the limit at most; None when it changed under our eyes."""
        return arrivals.read(self.root / "in", one, most=MAX_BYTES, settled=SETTLED)

    def put_away(self, name: str, where: str) -> str:
        """Move a file from `in` to `done` or `failed` under a name with the time; returns that name."""
        target = arrivals.shelf_name(time.strftime("%Y%m%dT%H%M%S", time.gmtime()), name)
        os.replace(self.root / "in" / name, self.root / where / target)
        return target

    def keep_errors(self, name: str, text: str) -> str:
        """The refused rows of a file, in `failed`; returns the name."""
        stem = re.sub(r"[^A-Za-z0-9._-]", "_", Path(name).stem)[:80]
        part = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]  # two names may look alike
        target = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{stem}-{part}.errors.csv"
        self._lay(self.root / "failed" / target, text)
        return target

    def errors(self, name: str) -> bytes | None:
        """A file of refused rows; None when it was cleared away."""
        try:
            descriptor = os.open(self.root / "failed" / os.path.basename(name), os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            return file.read()

    def tidy(self) -> int:
        """Clear away what was worked off a month ago: it holds buyers' data. Returns how many files went."""
        until, gone = time.time() - KEPT_DAYS * 86_400, 0
        for part in ("done", "failed"):
            folder = self.root / part
            for entry in os.scandir(folder) if folder.is_dir() else ():
                if (
                    entry.is_file(follow_symlinks=False)
                    and entry.stat(follow_symlinks=False).st_ctime < until
                ):
                    os.unlink(entry.path)
                    gone += 1
        return gone

    # --- out ---------------------------------------------------------------------------------------
    def lay(self, name: str, text: str) -> None:
        """A file in `out`, there at once and whole, in place of one of the same name."""
        self._lay(self.root / "out" / name, text)

    def _lay(self, target: Path, text: str) -> None:
        self._write(f"{target.name}.part", text)
        os.replace(self.root / ".work" / f"{target.name}.part", target)

    def _write(self, name: str, text: str) -> None:
        arrivals.write(self.root / ".work" / name, text, mode=0o660)

    def lies_there(self, name: str) -> bool:
        """Was it not fetched yet?"""
        return os.path.lexists(self.root / "out" / os.path.basename(name))

    def take_back(self, name: str) -> None:
        """Remove a file of ours that was not fetched."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.root / "out" / os.path.basename(name))

    def waiting(self) -> list[Arrived]:
        """Files in `out` that nobody has fetched, the oldest first."""
        folder = self.root / "out"
        if not folder.is_dir():
            return []
        found = []
        for entry in os.scandir(folder):
            if entry.is_file(follow_symlinks=False) and not entry.name.startswith("."):
                state = entry.stat(follow_symlinks=False)
                found.append(Arrived(entry.name, state.st_size, state.st_mtime, True))
        return sorted(found, key=lambda one: (one.at, one.name))

    def lies(self, name: str) -> bytes | None:
        """What stands in a file of `out` now; None when it is gone."""
        try:
            descriptor = os.open(self.root / "out" / name, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            return file.read(MAX_BYTES + 1)

    def tell_once(self, reference: str, name: str, text: str) -> None:
        """Lay a file at most once in a life, whoever is killed when, and even after it was fetched.

        First the text in `.work`, then the mark, then one rename. A mark without the text says that it was renamed.
        """
        part, mark = f"told-{reference}.part", self.root / ".work" / "told" / reference
        if not mark.exists():
            self._write(part, text)
            # by a rename as well: a mark that was cut off in the middle would name no file for ever
            self._write(f"mark-{reference}.part", name)
            os.replace(self.root / ".work" / f"mark-{reference}.part", mark)
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.root / ".work" / part, self.root / "out" / mark.read_text())

    def was_told(self, reference: str) -> bool:
        """True when the file of a reference lies in `out` or was fetched. Finishes what a killed process began."""
        mark = self.root / ".work" / "told" / reference
        if not mark.exists():
            return False
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.root / ".work" / f"told-{reference}.part", self.root / "out" / mark.read_text())
        return True

    # --- what is remembered ------------------------------------------------------------------------
    def memory(self) -> dict[str, Any]:
        """`shown`: {listing id: [sku, quantity]}; `waiting`: the same per file not fetched; `counter`; `listings`."""
        try:
            found = json.loads((self.root / ".work" / "memory.json").read_bytes())
        except FileNotFoundError:
            found = {}
        return {"shown": {}, "waiting": {}, "counter": 0, "listings": None, **found}

    def remember(self, memory: Mapping[str, Any]) -> None:
        self._write("memory.json.part", json.dumps(memory, separators=(",", ":")))
        os.replace(self.root / ".work" / "memory.json.part", self.root / ".work" / "memory.json")

    def remember_listings(self, listings: Sequence[Sequence[Any]]) -> None:
        """The channel's offers as it named them last: [id, sku, title, quantity or None]."""
        with self.locked():
            self.remember({**self.memory(), "listings": [list(one) for one in listings]})
