"""A file brought in on screen: kept, checked in the background, shown, and applied when a person says so."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.db import transaction

from oms.control.imports import reader, service
from oms.control.imports.items import Problem
from oms.control.imports.profiles import PROFILES
from oms.control.models import ImportFile, ImportRow
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import now
from oms.core.errors import Conflict, UserError
from oms.core.jobs import Run, job_handler, start_job
from oms.core.models import Job

State = ImportFile.State
MAX_UPLOAD = 50 * 1024 * 1024
CHECK, APPLY = "import_check", "import_apply"


def receive(
    upload: UploadedFile | None,
    kind: str,
    *,
    channel: str = "",
    warehouse: str = "",
    mode: str = "",
    profile: str = "",
    actor: Actor,
) -> ImportFile:
    """Keep an uploaded file and begin to check it; nothing of its content is written yet.

    Raises `UserError` naming the choice or column that is missing.
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
    service.options_for(kind, channel_code=channel, warehouse_code=warehouse, mode=mode)
    file = ImportFile(
        kind=kind,
        name=Path(upload.name).name[:255],
        size=upload.size or 0,
        created_by=str(actor),
        options={"channel": channel, "warehouse": warehouse, "mode": mode},
    )
    file.stored.save(f"upload{Path(upload.name).suffix.lower()[:8]}", upload, save=False)
    path = Path(file.stored.path)
    try:
        file.profile = service.choose_profile(path, kind, profile).name
        file.sha256 = reader.digest(path)
        with transaction.atomic():
            file.save()
            file.job = start_job(CHECK, f"Check {file.name}", {"file": file.pk}, actor)
            file.save(update_fields=["job"])
            record(actor, "import.received", file, after={"name": file.name, "sha256": file.sha256})
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return file


def headers_of(file: ImportFile) -> tuple[str, ...]:
    """The columns of the kept file as the user wrote them; empty when the file is gone."""
    if not file.stored or not Path(file.stored.path).is_file():
        return ()
    return reader.shape_of(Path(file.stored.path)).headers


def applied_before(file: ImportFile) -> ImportFile | None:
    """The same bytes, applied earlier."""
    return ImportFile.objects.filter(sha256=file.sha256, state=State.APPLIED).exclude(pk=file.pk).first()


def begin(file: ImportFile, *, create_skus: bool, only_whole: bool, actor: Actor) -> Job:
    """Apply a checked file in the background. `only_whole`: refuse while any row has an error.

    Raises `Conflict` when it is not checked, or is being applied already.
    """
    if only_whole and file.counts.get("errors"):
        raise Conflict(
            f"file: {file.counts['errors']} rows have errors; mend them, or apply the good rows only."
        )
    with transaction.atomic():
        ready = ImportFile.objects.filter(pk=file.pk, state__in=[State.CHECKED, State.STOPPED])
        if not ready.update(state=State.APPLYING):
            raise Conflict("file: it is not ready to be applied; look at its state.")
        file.refresh_from_db()
        if file.job is not None and file.job.kind == APPLY:
            raise Conflict("file: its job was stopped; go on with that job.")
        file.options = {**file.options, "create_skus": create_skus}
        file.problem_rows.all().delete()
        total = file.options.get("items")
        file.counts = {}
        file.job = start_job(APPLY, f"Import {file.name}", {"file": file.pk}, actor, total=total)
        file.save(update_fields=["options", "counts", "job"])
        record(actor, "import.applied", file, after={"name": file.name, "create_skus": create_skus})
    return file.job


def _opened(run: Run) -> tuple[ImportFile, Path, dict[str, Any]]:
    file = ImportFile.objects.get(pk=run.params["file"])
    chosen = {key: file.options.get(key, "") for key in ("channel", "warehouse", "mode")}
    options = service.options_for(
        file.kind, channel_code=chosen["channel"], warehouse_code=chosen["warehouse"], mode=chosen["mode"]
    )
    path = Path(file.stored.path)
    if not path.is_file():
        raise UserError("file: the uploaded file is gone; bring it in again.")
    return file, path, options


def _keep_problems(file: ImportFile, problems: list[Problem]) -> None:
    room = service.KEEP_PROBLEMS - file.problem_rows.count()
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


@job_handler(CHECK)
def check(run: Run) -> dict[str, Any]:
    """Read the whole file and keep what applying it would do. Writes nothing but the preview; repeating is harmless."""
    file, path, options = _opened(run)
    report = service.check(path, PROFILES[file.profile], options)
    with transaction.atomic():
        file.problem_rows.all().delete()
        _keep_problems(file, report.problems)
        file.rows, file.counts, file.state = report.rows, dict(report.counts), State.CHECKED
        file.options = {**file.options, "items": report.items, "new_codes": sorted(report.new_codes)[:50]}
        file.save(update_fields=["rows", "counts", "state", "options"])
    return {"rows": report.rows, **report.counts}


@job_handler(APPLY)
def apply(run: Run) -> dict[str, Any]:
    """Write the file's items; after a stop it goes on after the last chunk."""
    file, path, options = _opened(run)
    begun = Counter(file.counts)
    kept = errors = 0

    def progress(report: service.Report) -> bool:
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
    file.state, file.applied_at = State.APPLIED, now()
    file.save(update_fields=["state", "applied_at"])
    return dict(file.counts)
