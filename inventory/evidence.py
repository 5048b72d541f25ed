"""Photos and PDFs that prove a count, an adjustment or a write-off: kept as they came, told apart by their bytes."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet

from inventory.models import AdjustmentRequest, CountTask, Evidence, StockMovement
from oms.core.access import scope_of
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.errors import Conflict, NotFound, UserError

Kind = Evidence.Kind
Subject = StockMovement | AdjustmentRequest | CountTask
MAX_BYTES = 8 * 1024 * 1024
#: files of one movement, request or count
MOST = 10
CONTENT_TYPES = {
    Kind.JPEG: "image/jpeg", Kind.PNG: "image/png", Kind.WEBP: "image/webp", Kind.PDF: "application/pdf",
}  # fmt: skip
#: movements that a person made by hand, so that somebody may ask for the proof
MANUAL = ("adjust", "count", "found", "write_off", "state")
#: what evidence may be of → its model; who works on the floor may add to each
SUBJECTS: dict[str, type[Subject]] = {
    "movement": StockMovement, "request": AdjustmentRequest, "count": CountTask,
}  # fmt: skip
RIGHT = "stock.work"


def sniff(data: bytes) -> str:
    """The kind of a file by its first and last bytes, whatever its name says (pure). Raises `UserError`."""
    if not data:
        raise UserError("file: it is empty.", field="file")
    if len(data) > MAX_BYTES:
        raise UserError(
            f"file: it has {len(data) / 1e6:.1f} MB; at most {MAX_BYTES // 1024 // 1024} MB are allowed. Take a "
            "smaller photo.",
            field="file",
        )
    if data.startswith(b"\xff\xd8\xff"):
        return Kind.JPEG
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return Kind.PNG
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return Kind.WEBP
    if data.startswith(b"%PDF-") and b"%%EOF" in data[-2048:]:
        return Kind.PDF
    raise UserError("file: only photos (JPEG, PNG, WebP) and PDF files are taken.", field="file")


def clean_name(name: str, kind: str) -> str:
    """A name without folders and marks, with the extension of what the file is (pure)."""
    stem = re.split(r"[\\/]", name)[-1].rpartition(".")[0] or name
    stem = re.sub(r"[^\w .()-]", "", stem).strip(" .")[:70] or "evidence"
    return f"{stem}.{'jpg' if kind == Kind.JPEG else kind}"


def read(uploads: Iterable[Any]) -> list[tuple[str, bytes]]:
    """Uploaded files as (name, bytes), all of them checked before anything is done. Raises `UserError`."""
    found = []
    for upload in uploads:
        if upload.size and upload.size > MAX_BYTES:
            sniff(b" " * (MAX_BYTES + 1))
        data = upload.read()
        sniff(data)
        found.append((upload.name or "", data))
    if len(found) > MOST:
        raise UserError(f"file: at most {MOST} files are taken.", field="file")
    return found


def attach(subject: Subject, files: Sequence[tuple[str, bytes]], *, actor: Actor) -> list[Evidence]:
    """Keep files with a movement, a request or a count; the same file once. All of them or none.

    Raises `UserError` for what is no photo or PDF, `Conflict` beyond ten files.
    """
    name = _name_of(subject)
    made = []
    with transaction.atomic():
        for title, data in files:
            kind = sniff(data)
            digest = hashlib.sha256(data).hexdigest()
            row, new = Evidence.objects.get_or_create(
                **{name: subject}, sha256=digest,
                defaults={
                    "kind": kind, "name": clean_name(title, kind), "size": len(data), "content": data,
                    "actor": str(actor),
                },
            )  # fmt: skip
            made.append(row)
            if new:
                record(actor, "stock.evidence", subject, after={"file": row.name, "sha256": digest})
        if Evidence.objects.filter(**{name: subject}).count() > MOST:
            raise Conflict(f"file: at most {MOST} files are kept with one {name}.", field="file")
    return made


def _name_of(subject: Subject) -> str:
    return next(name for name, model in SUBJECTS.items() if isinstance(subject, model))


def find_subject(principal: Any, kind: str, pk: int, permission: str = "stock.view") -> Subject:
    """What evidence may be attached to, where the principal may look. Raises `NotFound`."""
    if kind in SUBJECTS:
        scope = scope_of(principal, permission)
        rows: Any = SUBJECTS[kind]._default_manager
        found: Subject | None = (
            rows.filter(scope.q(warehouse="warehouse__code"), pk=pk)
            .select_related("sku", "warehouse")
            .first()
        )
        if found is not None:
            return found
    raise NotFound(f"{kind}: there is none with id {pk}.", field=kind if kind in SUBJECTS else "")


def of(subject: Subject) -> list[Evidence]:
    """The files of one subject without their bytes; of a movement also those that its request or count came with."""
    where = Q(**{_name_of(subject): subject})
    if isinstance(subject, StockMovement):
        if request := _number(subject, "ADJ-"):
            where |= Q(request=request) | Q(count__request=request)
        if count := _number(subject, "C-"):
            where |= Q(count=count)
    if isinstance(subject, AdjustmentRequest):
        where |= Q(count__request=subject)
    return list(Evidence.objects.filter(where).defer("content").order_by("pk"))


def counted(movements: Sequence[StockMovement]) -> dict[int, int]:
    """How many files `of()` finds for each of the listed movements; one query."""
    came: dict[tuple[str, int], list[int]] = defaultdict(list)
    for one in movements:
        came["movement", one.pk].append(one.pk)
        if request := _number(one, "ADJ-"):
            came["request", request].append(one.pk)
            came["count__request", request].append(one.pk)
        if count := _number(one, "C-"):
            came["count", count].append(one.pk)
    where, names = Q(pk=-1), (*SUBJECTS, "count__request")
    for name in names:
        where |= Q(**{f"{name}__in": [number for kind, number in came if kind == name]})
    sizes: Counter[int] = Counter()
    for row in Evidence.objects.filter(where).values(*names):
        for pk in {pk for key in row.items() for pk in came.get(key, ())}:
            sizes[pk] += 1
    return dict(sizes)


def _number(movement: StockMovement, prefix: str) -> int | None:
    """The request or count that a movement names as its reference."""
    text = movement.reference.removeprefix(prefix)
    if movement.kind not in MANUAL or text == movement.reference or not text.isdecimal() or len(text) > 17:
        return None
    return int(text)


def visible(principal: Any) -> QuerySet[Evidence]:
    """Files of the warehouses where the principal may look, without their bytes."""
    scope = scope_of(principal, "stock.view")
    where = Q(pk=-1)
    for name in SUBJECTS:
        where |= scope.q(warehouse=f"{name}__warehouse__code") & Q(**{f"{name}__isnull": False})
    return Evidence.objects.filter(where).defer("content")


def find(principal: Any, pk: int) -> Evidence:
    """One file with its bytes, where the principal may look. Raises `NotFound`."""
    row = visible(principal).defer(None).filter(pk=pk).first()
    if row is None:
        raise NotFound("evidence: there is no such file.", field="evidence")
    return row
