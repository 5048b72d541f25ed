"""Lists as files on a schedule: a saved view, daily or weekly at a time of the business's zone, kept and maybe mailed.

The list's own screen writes the file, asked as the owner of the schedule: it shows what that person may see on that
day, no more. A run is a row with its due moment, so that any number of tasks write it once; a mail whose sending
was cut short is told to a person, never sent again by itself.
"""

from __future__ import annotations

import datetime as dt
import gzip
import io
import logging
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import F, Q
from django.http import HttpRequest, QueryDict, StreamingHttpResponse
from django.urls import NoReverseMatch, resolve, reverse

from oms.control.models import ExportFile, ScheduledExport
from oms.core.access import can
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.business import get as business
from oms.core.clock import business_zone, now
from oms.core.doorbell import ring
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.exceptions_inbox import close_item, raise_item
from oms.core.models import SavedView, User
from oms.core.words import some

log = logging.getLogger("lading.exports")

#: a file larger than this is refused with a sentence: filter the view
MOST_BYTES = 200 * 1024 * 1024
#: larger files are linked in the mail, not attached
MOST_ATTACHED = 5 * 1024 * 1024
#: files of one schedule that are kept, and for how long: they hold buyers' names
KEPT_FILES = 30
KEPT_DAYS = 30
MOST_ADDRESSES = 10
#: whoever writes a file is given up for dead after this
LEASE = dt.timedelta(minutes=15)
ATTEMPTS = 3

Every = ScheduledExport.Every
State = ExportFile.State


def next_run(every: str, weekday: int | None, at: dt.time, zone: ZoneInfo, after: dt.datetime) -> dt.datetime:
    """The first moment later than `after` at which the clock of `zone` shows `at` (on `weekday`, Monday = 0) (pure).

    An hour that the change to summer time skips is the moment at which it would have been.
    """
    day = after.astimezone(zone).date()
    for ahead in range(9):
        date = day + dt.timedelta(days=ahead)
        if every == Every.WEEKLY and date.weekday() != weekday:
            continue
        moment = dt.datetime.combine(date, at, zone).astimezone(dt.UTC)
        if moment > after:
            return moment
    raise ValueError("a week has seven days")


def mail_ready() -> bool:
    """Whether this installation can send mail."""
    return bool(settings.EMAIL_HOST)


def _addresses(text: str) -> list[str]:
    parts = text.replace(";", ",").replace("\n", ",").split(",")
    found = list(dict.fromkeys(part.strip() for part in parts if part.strip()))
    if len(found) > MOST_ADDRESSES:
        raise UserError(f"mail to: at most {MOST_ADDRESSES} addresses.", field="mail_to")
    for address in found:
        try:
            validate_email(address)
        except ValidationError as error:
            raise UserError(f"mail to: '{address[:60]}' is no e-mail address.", field="mail_to") from error
    if found and not mail_ready():
        raise UserError(
            "mail to: this installation sends no mail yet; set OMS_EMAIL_HOST, or leave it empty and download it.",
            field="mail_to",
        )
    return found


def create(
    owner: User,
    view_id: int,
    *,
    every: str,
    at: dt.time,
    weekday: int | None = None,
    mail_to: str = "",
    actor: Actor,
) -> ScheduledExport:
    """Write a saved view as a file from now on. Raises `UserError` naming the field, `NotFound` for another's view."""
    view = SavedView.objects.filter(pk=view_id).filter(pk__in=visible_views_of(owner).values("pk")).first()
    if view is None:
        raise NotFound("view: choose one of your saved views.", field="view")
    if every not in Every.values:
        raise UserError("how often: choose daily or weekly.", field="every")
    if every == Every.WEEKLY and weekday not in range(7):
        raise UserError("weekday: choose a day of the week.", field="weekday")
    if every == Every.DAILY:
        weekday = None
    addresses = _addresses(mail_to)
    _ask(view, owner)  # a list without a file is refused now, not at night
    with transaction.atomic():
        made = ScheduledExport.objects.create(
            view=view,
            owner=owner,
            every=every,
            weekday=weekday,
            at=at,
            mail_to=addresses,
            next_run_at=next_run(every, weekday, at, business_zone(), now()),
        )
        record(
            actor, "export.scheduled", made,
            after={"view": view.name, "every": every, "weekday": weekday, "at": f"{at:%H:%M}", "mail_to": addresses},
        )  # fmt: skip
    return made


def visible_views_of(user: User) -> Any:
    """Every saved view that the person may open, of any list."""
    roles = ["", *user.memberships.values_list("role", flat=True)]
    return SavedView.objects.filter(Q(owner=user) | Q(shared=True, role__in=roles)).select_related("owner")


def mine(user: User) -> Any:
    """The schedules that a person sees: their own; who runs the house sees all."""
    found = ScheduledExport.objects.select_related("view", "owner")
    return found if can(user, "settings.manage") else found.filter(owner=user)


def own(user: User, export_id: int) -> ScheduledExport:
    """A schedule that the person may change. Raises `NotFound`."""
    found = mine(user).filter(pk=export_id).first()
    if found is None:
        raise NotFound("export: there is no such schedule of yours.", field="export")
    made: ScheduledExport = found
    return made


def pause(export_id: int, paused: bool, *, actor: Actor) -> ScheduledExport:
    """Stop or go on; what was missed meanwhile is not made up for."""
    with transaction.atomic():
        found = ScheduledExport.objects.select_for_update().get(pk=export_id)
        if found.paused != paused:
            found.paused = paused
            if not paused:
                found.next_run_at = next_run(found.every, found.weekday, found.at, business_zone(), now())
            found.save(update_fields=["paused", "next_run_at"])
            record(actor, "export.paused" if paused else "export.resumed", found)
    return found


def remove(export_id: int, *, actor: Actor) -> None:
    """Forget a schedule and its files."""
    with transaction.atomic():
        found = ScheduledExport.objects.select_related("view").get(pk=export_id)
        record(actor, "export.removed", found, before={"view": found.view.name, "screen": found.view.screen})
        close_item(_key(found), "the schedule was removed", actor=actor)
        found.delete()


def run_now(export_id: int, *, actor: Actor) -> ExportFile:
    """One more file at once. Raises `Conflict` while one is being written."""
    with transaction.atomic():
        found = ScheduledExport.objects.select_for_update().get(pk=export_id)
        if found.files.filter(state__in=[State.PLANNED, State.RUNNING]).exists():
            raise Conflict("export: a file is being written already.", field="export")
        made = ExportFile.objects.create(export=found, due_at=now())
        record(actor, "export.run", found)
        ring("oms.control.tasks.write_exports")
    return made


# --- what the tasks do --------------------------------------------------------------------------


def plan_due(at: dt.datetime | None = None) -> int:
    """Plan a run for every schedule whose time has come; several missed ones are one. Any number may do it at once."""
    moment = at or now()
    made = 0
    for found in ScheduledExport.objects.filter(paused=False, next_run_at__lte=moment).order_by("pk"):
        later = next_run(found.every, found.weekday, found.at, business_zone(), moment)
        with transaction.atomic():
            taken = ScheduledExport.objects.filter(
                pk=found.pk, paused=False, next_run_at=found.next_run_at
            ).update(next_run_at=later)
            if taken:
                ExportFile.objects.get_or_create(export=found, due_at=found.next_run_at)
                made += 1
    return made


def write_due() -> int:
    """Write every planned file, and those whose writer died. Returns how many were finished or given up."""
    _mail_due()
    done = 0
    while True:
        moment = now()
        waiting = Q(state=State.PLANNED) | Q(state=State.RUNNING, lease_until__lte=moment)
        file = ExportFile.objects.filter(waiting).order_by("due_at", "pk").first()
        if file is None:
            return done
        taken = ExportFile.objects.filter(waiting, pk=file.pk, attempts=file.attempts).update(
            state=State.RUNNING, lease_until=moment + LEASE, attempts=F("attempts") + 1
        )
        if taken:
            _write(file.pk)
            done += 1


def _write(file_id: int) -> None:
    file = ExportFile.objects.select_related("export__view", "export__owner").get(pk=file_id)
    export = file.export
    try:
        if file.attempts > ATTEMPTS:
            raise UserError("the file could not be finished in three tries; see the log of the worker.")
        content, rows, size = _content(export)
    except Exception as error:
        if not isinstance(error, UserError):
            log.exception("export failed", extra={"export": export.pk})
        message = error.message if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        _fail(file, message)
        return
    with transaction.atomic():
        ExportFile.objects.filter(pk=file.pk).update(
            state=State.DONE,
            content=content,
            rows=rows,
            size=size,
            finished_at=now(),
            lease_until=now() + LEASE if export.mail_to else None,
            message="",
        )
        ScheduledExport.objects.filter(pk=export.pk).update(last_run_at=now())
        close_item(_key(export), "a file was written")
    _mail(file_id)


def _key(export: ScheduledExport) -> str:
    return f"export:{export.pk}"


def _fail(file: ExportFile, message: str) -> None:
    with transaction.atomic():
        ExportFile.objects.filter(pk=file.pk).update(
            state=State.FAILED, finished_at=now(), lease_until=None, message=message[:400]
        )
        raise_item(
            "export_failed",
            _key(file.export),
            f"The scheduled file “{file.export.view.name}” was not written",
            detail=message,
            url=reverse("control:exports"),
        )


def _ask(view: SavedView, owner: User) -> StreamingHttpResponse:
    """The list's own screen, asked for its file as the owner. Raises `UserError` with its refusal."""
    if not owner.is_active:
        raise UserError(f"owner: {owner} is no longer active; schedule the view anew.", field="owner")
    try:
        path = reverse(view.screen)
    except NoReverseMatch as error:
        raise UserError(f"view: the list {view.screen} does not exist any more.", field="view") from error
    filters = QueryDict(view.query, mutable=True)
    filters["format"] = "csv"
    query = QueryDict(filters.urlencode())
    request = HttpRequest()
    request.method, request.path, request.path_info, request.GET = "GET", path, path, query
    request.META["QUERY_STRING"] = query.urlencode()
    request.META["SERVER_NAME"], request.META["SERVER_PORT"] = "localhost", "80"
    request.user = owner
    request.session = {}  # type: ignore[assignment]  # lists read the chosen warehouse from it, nothing else
    match = resolve(path)
    request.resolver_match = match
    answer = match.func(request, *match.args, **match.kwargs)
    if answer.status_code == 403:
        raise UserError(f"owner: {owner} may not see this list any more.", field="owner")
    if answer.status_code != 200 or not answer.get("Content-Type", "").startswith("text/csv"):
        raise UserError(f"view: the list {view.screen} cannot be written as a file.", field="view")
    found: StreamingHttpResponse = answer
    return found


def _content(export: ScheduledExport) -> tuple[bytes, int, int]:
    """(gzip of the CSV, rows without the header, bytes of the CSV)."""
    packed = io.BytesIO()
    size = lines = 0
    answer = _ask(export.view, export.owner)
    chunks: Any = answer.streaming_content if answer.streaming else [answer.content]
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6) as target:
        for chunk in chunks:
            data = chunk if isinstance(chunk, bytes) else chunk.encode()
            size += len(data)
            lines += data.count(b"\r\n")
            if size > MOST_BYTES:
                raise UserError(
                    f"view: the file grew beyond {MOST_BYTES // 1024 // 1024} MB; filter the view.",
                    field="view",
                )
            target.write(data)
    return packed.getvalue(), max(0, lines - 1), size


def file_name(file: ExportFile) -> str:
    """What the file is called on a disk: list, view and the business's day."""
    words = "".join(one if one.isalnum() else "-" for one in file.export.view.name.lower()).strip("-")[:40]
    return f"{words or 'export'}-{file.due_at.astimezone(business_zone()):%Y-%m-%d-%H%M}.csv"


def _mail_due() -> None:
    """Files that are written, but whose writer died before the end of their mail."""
    moment = now()
    left = ExportFile.objects.filter(state=State.DONE, lease_until__lte=moment)
    for pk in left.order_by("pk").values_list("pk", flat=True):
        if left.filter(pk=pk).update(lease_until=moment + LEASE):
            _mail(pk)


def _mail(file_id: int) -> None:
    """Send a finished file once: the intention is committed before the server is asked. Its lease ends with it."""
    file = ExportFile.objects.select_related("export__view").get(pk=file_id)
    export = file.export
    if not export.mail_to or file.mail_state == ExportFile.Mail.SENT:
        ExportFile.objects.filter(pk=file_id).update(lease_until=None)
        return
    first = ExportFile.objects.filter(pk=file_id, mail_state=ExportFile.Mail.NONE).update(
        mail_state=ExportFile.Mail.SENDING
    )
    if not first:
        _mail_trouble(
            file, ExportFile.Mail.UNKNOWN, "the worker stopped while the mail was sent; it may have left"
        )
        return
    name = file_name(file)
    link = f"{settings.BASE_URL}{reverse('control:export-file', args=[file.pk])}"
    small = file.size <= MOST_ATTACHED
    where = "Attached; also at" if small else "Download:"
    text = f"{some(file.rows, 'row')} of “{export.view.name}”.\n\n{where} {link}\n"
    mail = EmailMessage(f"{business('company_name')}: {export.view.name}", text, to=export.mail_to)
    if small and file.content is not None:
        mail.attach(name, gzip.decompress(bytes(file.content)), "text/csv")
    try:
        mail.send()
    except Exception as error:
        log.exception("export mail failed", extra={"export": export.pk})
        _mail_trouble(file, ExportFile.Mail.FAILED, f"the mail server said: {type(error).__name__}: {error}")
    else:
        ExportFile.objects.filter(pk=file_id).update(mail_state=ExportFile.Mail.SENT, lease_until=None)


def _mail_trouble(file: ExportFile, state: str, message: str) -> None:
    with transaction.atomic():
        ExportFile.objects.filter(pk=file.pk).update(
            mail_state=state, message=message[:400], lease_until=None
        )
        raise_item(
            "export_failed",
            _key(file.export),
            f"The scheduled file “{file.export.view.name}” is written, but was not mailed for certain",
            detail=message,
            url=reverse("control:exports"),
        )


def tidy(at: dt.datetime | None = None) -> int:
    """Forget files that are old or too many: they hold what lists show, buyers' names included."""
    moment = at or now()
    gone, _ = ExportFile.objects.filter(due_at__lt=moment - dt.timedelta(days=KEPT_DAYS)).delete()
    for export in ScheduledExport.objects.order_by("pk"):
        old = list(export.files.order_by("-due_at", "-pk").values_list("pk", flat=True)[KEPT_FILES:])
        if old:
            gone += ExportFile.objects.filter(pk__in=old).delete()[0]
    return gone
