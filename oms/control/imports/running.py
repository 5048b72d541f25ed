"""A file brought in on screen: kept, checked in the background, shown, and applied when a person says so."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.db import transaction

from inventory import approvals, stockfile
from inventory.approvals import Sum
from inventory.locking import retrying, stock_transaction
from inventory.models import StockBatch, Warehouse
from oms.control.imports import reader, service
from oms.control.imports.items import Problem
from oms.control.imports.profiles import PROFILES, Profile, detect, normal
from oms.control.imports.report import KEEP_PROBLEMS, Report
from oms.control.imports.stock import CHUNK, StockFile
from oms.control.models import ImportFile, ImportMapping, ImportRow
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import now
from oms.core.errors import Conflict, UserError
from oms.core.jobs import Run, job_handler, start_job
from oms.core.models import Job
from oms.core.words import some

State = ImportFile.State
MAX_UPLOAD = 50 * 1024 * 1024
CHECK, APPLY, UNDO = "import_check", "import_apply", "import_undo"
#: choices a person makes for a file
CHOICES = ("channel", "warehouse", "mode", "decimal", "mapping")


def receive(
    upload: UploadedFile | None,
    kind: str,
    *,
    channel: str = "",
    warehouse: str = "",
    mode: str = "",
    decimal: str = ".",
    profile: str = "",
    actor: Actor,
) -> ImportFile:
    """Keep an uploaded file and begin to check it; nothing of its content is written yet.

    A file whose columns are not known waits for a person to match them. Raises `UserError` naming the choice that
    is missing or what is wrong with the file.
    """
    if upload is None or not upload.name:
        raise UserError("file: choose a CSV, TSV or XLSX file.", field="file")
    if kind not in ImportFile.Kind.values:
        raise UserError("kind: choose orders, stock or purchase orders.", field="kind")
    if (upload.size or 0) > MAX_UPLOAD:
        limit = MAX_UPLOAD // 2**20
        raise UserError(
            f"file: larger than {limit} MiB; split it, or use manage.py import_{kind}.", field="file"
        )
    if mode not in ("", "set", "add"):
        raise UserError("mode: choose a count (set) or a change (add).", field="mode")
    service.options_for(kind, channel_code=channel, warehouse_code=warehouse, mode=mode, decimal=decimal)
    file = ImportFile(
        kind=kind,
        name=Path(upload.name).name[:255],
        size=upload.size or 0,
        created_by=str(actor),
        options={"channel": channel, "warehouse": warehouse, "mode": mode, "decimal": decimal},
    )
    file.stored.save(f"upload{Path(upload.name).suffix.lower()[:8]}", upload, save=False)
    path = Path(file.stored.path)
    try:
        headers = reader.shape_of(path).headers
        chosen, mapping = _shape_for(kind, profile, headers)
        file.profile = chosen.name
        file.options["mapping"] = mapping
        file.sha256 = reader.digest(path)
        ready = not chosen.missing(chosen.bind(headers, mapping))
        if ready:
            _right_mode(file, path)
        with transaction.atomic():
            file.save()
            if ready:
                _start_check(file, actor)
            record(actor, "import.received", file, after={"name": file.name, "sha256": file.sha256})
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return file


def _shape_for(kind: str, name: str, headers: Sequence[str]) -> tuple[Profile, dict[str, str]]:
    """The shape asked for, else the one remembered for these headers, else found by them, else our own to match."""
    if name:
        asked = PROFILES.get(name)
        if asked is None or asked.kind != kind:
            raise UserError(f"profile: '{name}' is no shape of {kind}.", field="profile")
        return asked, {}
    known = ImportMapping.objects.filter(kind=kind, headers=_signature(headers)).first()
    if known is not None and known.profile in PROFILES:
        return PROFILES[known.profile], known.columns
    found = detect(headers, kind)
    return found or PROFILES[kind], {}


def _signature(headers: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(normal(header) for header in headers).encode()).hexdigest()


def _right_mode(file: ImportFile, path: Path) -> None:
    """A stock file says for each row, or by choice, whether it counts or changes. Raises `UserError`."""
    if file.kind == ImportFile.Kind.STOCK:
        opened = StockFile(path, PROFILES[file.profile], file.options)
        if not opened.mode and "mode" not in opened.bound:
            raise UserError(
                "mode: say whether the quantities are counts (set) or changes (add).", field="mode"
            )
        if opened.profile.snapshot and not file.options.get("warehouse"):
            raise UserError("warehouse: choose the FBA pool that this report is of.", field="warehouse")


def _start_check(file: ImportFile, actor: Actor) -> None:
    file.state = State.UPLOADED
    file.counts = {}
    file.job = start_job(CHECK, f"Check {file.name}", {"file": file.pk}, actor)
    file.save()


def match(
    file: ImportFile,
    profile: str,
    columns: Mapping[str, str],
    choices: Mapping[str, str],
    *,
    keep: bool,
    actor: Actor,
) -> ImportFile:
    """Say what the columns of a file mean and how its figures are to be read, and check it again.

    `columns`: our field → the file's header, "" for none; `keep` remembers them for these headers. Raises
    `UserError` for a field without column, `Conflict` when the file is past its check.
    """
    chosen = PROFILES.get(profile)
    if chosen is None or chosen.kind != file.kind:
        raise UserError(f"profile: '{profile}' is no shape of {file.get_kind_display()}.", field="profile")
    headers = headers_of(file)
    mapping = {column.name: columns[column.name] for column in chosen.columns if column.name in columns}
    for name, header in mapping.items():
        if header and header not in headers:
            raise UserError(f"{name}: the file has no column '{header}'.", field=name)
    missing = chosen.missing(chosen.bind(headers, mapping))
    if missing:
        raise UserError(f"{missing[0]}: choose the column that holds it.", field=missing[0])
    options = {**file.options, **{name: choices[name] for name in CHOICES if name in choices}}
    options["mapping"] = mapping
    service.options_for(
        file.kind, channel_code=options["channel"], warehouse_code=options["warehouse"], mode=options["mode"],
        decimal=options.get("decimal", "."),
    )  # fmt: skip
    with transaction.atomic():
        again = ImportFile.objects.select_for_update(of=("self",)).filter(
            pk=file.pk, state__in=[State.UPLOADED, State.CHECKED]
        )
        if not again:
            raise Conflict("file: it is being applied, or was applied already.")
        file.profile, file.options = profile, options
        _right_mode(file, Path(file.stored.path))
        _start_check(file, actor)
        if keep:
            ImportMapping.objects.update_or_create(
                kind=file.kind,
                headers=_signature(headers),
                defaults={"profile": profile, "columns": mapping, "created_by": str(actor)},
            )
    return file


def samples(file: ImportFile, count: int = 3) -> dict[str, list[str]]:
    """The first values of each column of the kept file; none when the file is gone."""
    if not file.stored or not Path(file.stored.path).is_file():
        return {}
    path = Path(file.stored.path)
    shape = reader.shape_of(path)
    found: dict[str, list[str]] = {header: [] for header in shape.headers}
    for _, values in islice(reader.records(path, shape), count):
        for header, value in reader.raw_cells(shape.headers, values).items():
            found[header].append(value[:60])
    return found


def headers_of(file: ImportFile) -> tuple[str, ...]:
    """The columns of the kept file as the user wrote them; empty when the file is gone."""
    if not file.stored or not Path(file.stored.path).is_file():
        return ()
    return reader.shape_of(Path(file.stored.path)).headers


def applied_before(file: ImportFile) -> ImportFile | None:
    """The same bytes, applied earlier."""
    return ImportFile.objects.filter(sha256=file.sha256, state=State.APPLIED).exclude(pk=file.pk).first()


def empties(file: ImportFile) -> int:
    """How many levels the file would bring to 0, when that is a tenth of its changes or more; else 0.

    A person has to say that they have seen it: a wrong column looks just like that.
    """
    zero = int(file.counts.get("to_zero", 0))
    return zero if zero > 1 and zero * 10 >= int(file.counts.get("change", 0)) else 0


def begin(
    file: ImportFile,
    *,
    create_skus: bool = False,
    only_whole: bool = False,
    zero_seen: bool = False,
    again: bool = False,
    actor: Actor,
) -> Job | None:
    """Apply a checked file in the background. `only_whole`: refuse while any row has an error, and take back what
    was written when one turns up on the way. `again`: a file applied before is written a second time.

    A file that is worth more than its author may move alone waits for a second person instead (None).
    Raises `Conflict` when it is not checked, is being applied already, or empties many levels unseen.
    """
    if file.state == State.CHECKED and empties(file) and not zero_seen:
        raise Conflict(
            f"file: {empties(file)} levels would go to 0. Look whether the right column is matched, and tick that "
            "this is meant."
        )
    if only_whole and file.counts.get("errors"):
        raise Conflict(
            f"file: {some(file.counts['errors'], 'row has an error', 'rows have errors')}; mend them, or "
            "apply the good rows only."
        )
    with transaction.atomic():
        ready = ImportFile.objects.filter(pk=file.pk, state__in=[State.CHECKED, State.STOPPED])
        if not ready.update(state=State.APPLYING):
            raise Conflict("file: it is not ready to be applied; look at its state.")
        file.refresh_from_db()
        if file.job is not None and file.job.kind == APPLY:
            raise Conflict("file: its job was stopped; go on with that job.")
        before = ImportFile.objects.filter(sha256=file.sha256).exclude(pk=file.pk)
        times = before.filter(state__in=[State.UNDONE, *([State.APPLIED] if again else [])]).count()
        file.options = {
            **file.options,
            "create_skus": create_skus,
            "whole": only_whole,
            "prefix": service.key_prefix(file.sha256, times),
        }
        if actor.user_id is not None:
            file.options["allowed"] = str(approvals.limit_of(actor.user_id))
        total = _total(file)
        if approvals.needs_second(total.counted(), actor.user_id):
            file.state = State.WAITING
            file.batch = approvals.ask(
                APPLY,
                f"Stock file {file.name}" if file.kind == ImportFile.Kind.STOCK else f"Corrections in {file.name}",
                {"file": file.pk}, total, actor=actor, key=f"import:{uuid.uuid4().hex}", url=f"/imports/{file.pk}/",
            )  # fmt: skip
            file.save(update_fields=["state", "options", "batch"])
            return None
        file.batch = None
        _start_apply(file, actor)
        record(actor, "import.applied", file, after={"name": file.name, "create_skus": create_skus})
    return file.job


def _start_apply(file: ImportFile, actor: Actor) -> Job:
    file.problem_rows.all().delete()
    file.counts = {}
    total = file.options.get("items")
    file.job = start_job(APPLY, f"Import {file.name}", {"file": file.pk}, actor, total=total)
    file.save(update_fields=["options", "counts", "job", "batch"])
    return file.job


def _total(file: ImportFile) -> approvals.Sum:
    """What the check found the file to be worth."""
    kept = file.options.get("total") or {}
    shown = [list(row[1:]) for row in file.options.get("shown", [])[: approvals.SHOWN]]
    return approvals.Sum(
        kept.get("rows", 0), kept.get("units_in", 0), kept.get("units_out", 0), Decimal(kept.get("value", "0")),
        Decimal(kept.get("dearest", "0")), shown, set(kept.get("places", [])),
    )  # fmt: skip


@approvals.batch_runner(APPLY)
def decided(batch: StockBatch, approve: bool) -> Job | None:
    """A second person has decided: the file is applied in its author's name, or goes back to its check."""
    waiting = ImportFile.objects.filter(pk=batch.params["file"], batch=batch, state=State.WAITING)
    if not waiting.update(state=State.APPLYING if approve else State.CHECKED):
        raise Conflict("file: it waits no longer; look at its state.")
    if not approve:
        return None
    file = ImportFile.objects.get(pk=batch.params["file"])
    # what was approved, and what its author may move alone on top: stock goes on moving meanwhile
    file.options = {
        **file.options,
        "allowed": str(batch.value + batch.limit),
        "asked_at": file.options["checked_at"],
    }
    return _start_apply(file, _author(batch))


def _author(batch: StockBatch) -> Actor:
    kind, _, name = batch.actor.partition(":")
    return Actor(kind, name, batch.author_id)


def _opened(run: Run) -> tuple[ImportFile, Path, dict[str, Any]]:
    file = ImportFile.objects.get(pk=run.params["file"])
    return file, *opened(file)


def opened(file: ImportFile) -> tuple[Path, dict[str, Any]]:
    """Where a kept file lies, and the choices made for it. Raises `UserError`."""
    options = service.options_for(
        file.kind,
        channel_code=file.options.get("channel", ""),
        warehouse_code=file.options.get("warehouse", ""),
        mode=file.options.get("mode", ""),
        decimal=file.options.get("decimal") or ".",
        mapping=file.options.get("mapping"),
    )
    if not file.stored or not Path(file.stored.path).is_file():
        raise UserError("file: the uploaded file is gone; bring it in again.")
    return Path(file.stored.path), options


def _keep_problems(file: ImportFile, problems: list[Problem]) -> None:
    room = KEEP_PROBLEMS - file.problem_rows.count()
    ImportRow.objects.bulk_create(
        [
            ImportRow(
                file=file,
                number=p.row,
                level=p.level,
                column=p.column[:80],
                message=p.message[:400],
                raw=p.raw,
            )
            for p in problems[: max(room, 0)]
        ],
        batch_size=500,
    )


def _held(run: Run, state: str) -> bool:
    """Whether the file still waits in `state` for this job. Inside atomic: nobody else moves it until the end of it.

    A run that died between its last step and the end of its job is repeated minutes later, when a person may have
    gone on with the file.
    """
    waiting = ImportFile.objects.filter(pk=run.params["file"], job=run.job.pk, state=state)
    return bool(waiting.update(state=state))


def _end(run: Run, file: ImportFile, state: str) -> None:
    """The file's work is done, if this job still has it."""
    with transaction.atomic():
        if _held(run, State.APPLYING):
            file.state = state
            if state == State.APPLIED:
                file.applied_at = now()
            file.save(update_fields=["state", "applied_at"])


@job_handler(CHECK)
def check(run: Run) -> dict[str, Any]:
    """Read the whole file and keep what applying it would do. Writes nothing but the preview; repeating is harmless.

    A long one stops like every job when its time is up. What it has found so far lies beside the file meanwhile.
    """
    file, path, options = _opened(run)
    if not _held(run, State.UPLOADED):
        return {}
    profile, so_far = PROFILES[file.profile], path.with_name(f"{path.name}.{run.job.pk}.part")
    checking, began = _so_far(so_far) or (service.Checking(Report(profile.name)), now())

    def keep() -> None:
        written = json.dumps({"began": began.isoformat(), **checking.told()})
        half = so_far.with_name(f"{so_far.name}.new")
        half.write_text(written, encoding="utf-8")
        half.replace(so_far)  # whole or not at all

    def after_chunk() -> None:
        run.reached(checking.report.items)
        run.checkpoint(keep)

    found = service.check(path, profile, options, checking, after_chunk=after_chunk)
    if not found.rows:
        raise UserError("file: it has a header and no rows.")
    places = dict(Warehouse.objects.values_list("pk", "code"))
    shown = [(row, sku, places[place], before, after) for row, sku, place, before, after in found.shown]
    with transaction.atomic():
        if not _held(run, State.UPLOADED):
            return {"rows": found.rows, **found.counts}
        file.problem_rows.all().delete()
        _keep_problems(file, found.problems)
        file.rows, file.counts, file.state = found.rows, dict(found.counts), State.CHECKED
        file.options = {
            **file.options,
            "items": found.items,
            "new_codes": sorted(found.new_codes)[:50],
            "shown": shown,
            "checked_at": began.isoformat(),
            "total": {
                "rows": found.total.rows, "units_in": found.total.units_in, "units_out": found.total.units_out,
                "value": str(found.total.value), "dearest": str(found.total.dearest),
                "places": sorted(places[place] for place in found.places),
            },
        }  # fmt: skip
        file.save(update_fields=["rows", "counts", "state", "options"])
    so_far.unlink(missing_ok=True)
    return {"rows": found.rows, **found.counts}


def _so_far(path: Path) -> tuple[service.Checking, dt.datetime] | None:
    """What an earlier stretch of the same check found, and when the check began."""
    if not path.is_file():
        return None
    told = json.loads(path.read_text(encoding="utf-8"))
    return service.Checking.heard(told), dt.datetime.fromisoformat(told["began"])


@job_handler(APPLY)
def apply(run: Run) -> dict[str, Any]:
    """Write the file's items; after a stop it goes on after the last chunk."""
    file, path, options = _opened(run)
    if file.state == State.UNDONE and file.job_id == run.job.pk:
        raise UserError("file: nothing of it was kept; bring it in again.")
    if not _held(run, State.APPLYING):
        return dict(file.counts)
    if file.kind == ImportFile.Kind.STOCK:
        return _apply_stock(run, file, path, options)
    begun = Counter(file.counts)
    kept = errors = 0

    def progress(report: Report) -> bool:
        nonlocal kept, errors
        with transaction.atomic():
            _keep_problems(file, report.problems[kept:])
            file.counts = dict(begun + report.counts)
            file.save(update_fields=["counts"])
            failed = report.counts["errors"] - errors
            done = report.items - run.position
            run.advance(done, failed=min(failed, done))
        kept, errors = len(report.problems), report.counts["errors"]
        run.checkpoint()
        return True

    service.apply(
        path,
        PROFILES[file.profile],
        options,
        actor=run.actor,
        create_skus=bool(file.options.get("create_skus")),
        progress=progress,
        skip=run.position,
    )
    _end(run, file, State.APPLIED)
    return dict(file.counts)


class _TooMuch(UserError):
    """The file moves more by now than when it was checked, and more than is allowed."""


class _NotWhole(UserError):
    """A row of an all-or-nothing file could not be taken."""


def _apply_stock(run: Run, file: ImportFile, path: Path, options: dict[str, Any]) -> dict[str, Any]:
    begun, found = Counter(file.counts), Report(file.profile)
    moved = Decimal(file.options.get("moved", "0")) if run.position else Decimal(0)
    allowed, waited = file.options.get("allowed"), file.options.get("asked_at")
    asked = dt.datetime.fromisoformat(waited) if waited else None
    done = (run.job.position, run.job.ok, run.job.failed)

    def commit(part: Report) -> None:
        # a repeated transaction starts from what is committed
        run.job.position, run.job.ok, run.job.failed = done
        if part.counts["errors"] and file.options.get("whole"):
            first = part.problems[0]
            raise _NotWhole(f"row {first.row}, {first.column}: {first.message}")
        whole = Sum(value=moved + found.total.value + part.total.value)
        whole.dearest = max(found.total.dearest, part.total.dearest)
        if allowed is not None and whole.counted() > Decimal(allowed):
            raise _TooMuch(
                f"row {found.items + 1}: from here on the file is worth more than when it was checked, and more than "
                "may be moved without a second person. The rows before are written; bring the file in again for the "
                "others."
            )
        _keep_problems(file, part.problems)
        file.counts = dict(begun + found.counts + part.counts)
        file.options["moved"] = str(whole.value)
        file.save(update_fields=["counts", "options"])
        run.advance(part.items, failed=part.counts["errors"])

    def after_chunk() -> None:
        nonlocal done
        done = (run.job.position, run.job.ok, run.job.failed)
        run.checkpoint()

    prefix = str(file.options["prefix"])
    try:
        StockFile(path, PROFILES[file.profile], options).write(
            found, actor=run.actor, prefix=prefix, reference=file.name[:80], skip=run.position,
            taken_at=file.created_at, asked_at=asked, commit=commit, after_chunk=after_chunk,
        )  # fmt: skip
    except _TooMuch:
        _end(run, file, State.APPLIED)
        raise
    except _NotWhole as error:
        for start in range(0, stockfile.posted_rows(prefix), CHUNK):
            _reverse(prefix, start, run.actor)
        file.state, file.counts = State.UNDONE, {}
        file.save(update_fields=["state", "counts"])
        raise UserError(
            f"{error.message} All or nothing was asked, so nothing of the file was kept."
        ) from error
    _end(run, file, State.APPLIED)
    return dict(file.counts)


# --- undo -----------------------------------------------------------------------------------------


def undoable(file: ImportFile) -> bool:
    """Only what our own ledger rows did can be taken back: not orders, and not an operator's figures."""
    profile = PROFILES.get(file.profile)
    ours = file.kind == ImportFile.Kind.STOCK and profile is not None and not profile.snapshot
    asked = file.batch is not None and file.batch.state == StockBatch.State.PENDING
    return ours and file.state == State.APPLIED and bool(file.options.get("prefix")) and not asked


def begin_undo(file: ImportFile, *, actor: Actor) -> Job | None:
    """Take back what a stock file did, by reversing movements, in the background. That changes stock as much as the
    file did: above the author's limit it waits for a second person as well (None).

    Averages that costs of the file changed are what they were before it. Raises `Conflict` when it is not applied,
    or when stock moved or cost was entered since on a level that it changed: then a reversal would undo somebody
    else's work too, and the rows have to be mended by hand.
    """
    if not undoable(file):
        raise Conflict("file: only an applied stock file can be undone.")
    prefix = str(file.options["prefix"])
    _may_undo(prefix)
    total, ids = stockfile.posted_sum(prefix)
    if approvals.needs_second(total.counted(), actor.user_id):
        total.places = set(Warehouse.objects.filter(pk__in=ids).values_list("code", flat=True))
        with transaction.atomic():
            if not ImportFile.objects.filter(pk=file.pk, state=State.APPLIED).update(state=State.APPLIED):
                raise Conflict("file: it is being undone already.")
            file.batch = approvals.ask(
                UNDO, f"Undo of stock file {file.name}", {"file": file.pk}, total, actor=actor,
                key=f"import-undo:{uuid.uuid4().hex}", url=f"/imports/{file.pk}/",
            )  # fmt: skip
            file.save(update_fields=["batch"])
        return None
    return _start_undo(file, actor)


@approvals.batch_runner(UNDO)
def undo_decided(batch: StockBatch, approve: bool) -> Job | None:
    """A second person has decided whether a file is taken back. Raises `Conflict` when stock moved meanwhile."""
    file = ImportFile.objects.get(pk=batch.params["file"])
    return _start_undo(file, _author(batch)) if approve else None


def _may_undo(prefix: str) -> None:
    count, first = stockfile.blocked(prefix)
    if count:
        where = ", ".join(f"{row.sku} in {row.warehouse}" for row in first[:3])
        raise Conflict(f"file: {count:,} of its levels moved since ({where}); mend these by hand.")
    if why := stockfile.merge_blocks(prefix) or stockfile.cost_blocks(prefix):
        raise Conflict(f"file: {why}")


def _start_undo(file: ImportFile, actor: Actor) -> Job:
    prefix = str(file.options["prefix"])
    _may_undo(prefix)
    with transaction.atomic():
        if not ImportFile.objects.filter(pk=file.pk, state=State.APPLIED).update(state=State.APPLYING):
            raise Conflict("file: it is being undone already.")
        file.refresh_from_db()
        total = stockfile.posted_rows(prefix)
        file.job = start_job(UNDO, f"Undo {file.name}", {"file": file.pk}, actor, total=total)
        file.save(update_fields=["job"])
        record(actor, "import.undone", file, after={"name": file.name, "rows": total})
    return file.job


@job_handler(UNDO)
def undo(run: Run) -> dict[str, Any]:
    """Reverse the file's rows, newest first; each chunk is one transaction with its position."""
    file = ImportFile.objects.get(pk=run.params["file"])
    prefix = str(file.options["prefix"])
    while True:
        done = (run.job.position, run.job.ok, run.job.failed)

        def chunk(done: tuple[int, int, int] = done) -> int:
            run.job.position, run.job.ok, run.job.failed = done
            with stock_transaction():
                rows = _reverse(prefix, run.position, run.actor)
                run.advance(rows)
            return rows

        if not retrying(chunk):
            break
        run.checkpoint()
    _end(run, file, State.UNDONE)
    return {"reversed": run.position}


def _reverse(prefix: str, start: int, actor: Actor) -> int:
    lines = stockfile.undo_lines(prefix, start, CHUNK)
    posted = stockfile.post(lines, actor=actor, reference="undo")
    wrong = next((one for one in posted.decided if one.problem), None)
    if wrong is not None:
        raise UserError(f"cannot be undone: {wrong.problem}")
    stockfile.restore_averages(prefix, [line.number for line in lines], actor=actor)
    return len(lines)
