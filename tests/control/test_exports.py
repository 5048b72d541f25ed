"""Saved views as files on a schedule: the right moment, once, as the owner may see them, failures told (X04)."""

from __future__ import annotations

import datetime as dt
import gzip
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse

from oms.control import exports
from oms.control.models import ExportFile, ScheduledExport
from oms.core import lists
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.models import ExceptionItem, Membership, SavedView, User
from oms.orders.intake import take
from tests.factories import line_draft, make_channel, make_sku, make_user, make_warehouse, order_draft

NEW_YORK = ZoneInfo("America/New_York")
SEVEN = dt.time(7, 0)


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=NEW_YORK)


@pytest.mark.parametrize(
    ("every", "weekday", "after", "expected"),
    [
        ("daily", None, "2026-11-26 06:59", "2026-11-26 07:00"),
        ("daily", None, "2026-11-26 07:00", "2026-11-27 07:00"),
        ("weekly", 0, "2026-11-26 12:00", "2026-11-30 07:00"),
        ("weekly", 3, "2026-11-26 07:00", "2026-12-03 07:00"),
        ("daily", None, "2026-10-31 08:00", "2026-11-01 07:00"),  # the clock goes back that night
    ],
)
def test_the_next_moment(every: str, weekday: int | None, after: str, expected: str) -> None:
    found = exports.next_run(every, weekday, SEVEN, NEW_YORK, at(after))
    assert found == at(expected)
    assert found.astimezone(NEW_YORK).time() == SEVEN


def test_an_hour_that_summer_time_skips_still_comes_once() -> None:
    first = exports.next_run("daily", None, dt.time(2, 30), NEW_YORK, at("2027-03-13 12:00"))
    second = exports.next_run("daily", None, dt.time(2, 30), NEW_YORK, first)
    assert first.astimezone(NEW_YORK).date() == dt.date(2027, 3, 14)
    assert second.astimezone(NEW_YORK).date() == dt.date(2027, 3, 15)


@pytest.fixture
def world(db: None) -> None:
    place, sku = make_warehouse("EAST"), make_sku("MUG")
    for code in ("near", "far"):
        channel = make_channel(code, place, prefix=code[:2].upper())
        take(
            [order_draft(line_draft(sku), external_id=f"{code}-{n}", external_number=f"{code}-{n}") for n in range(2)],
            channel=channel, actor=SYSTEM, source="api",
        )  # fmt: skip


@pytest.fixture
def ada(world: None) -> User:
    return make_user("ada", "ops", channels=("near",))


def schedule(user: User, query: str = "", **more: Any) -> ScheduledExport:
    view = lists.save_view(user, "orders:list", "Mine", query, actor=SYSTEM)
    values: dict[str, Any] = {"every": "daily", "at": SEVEN, **more}
    return exports.create(user, view.pk, actor=SYSTEM, **values)


def due(found: ScheduledExport) -> None:
    ScheduledExport.objects.filter(pk=found.pk).update(next_run_at=found.next_run_at - dt.timedelta(days=3))


def run() -> None:
    exports.plan_due()
    exports.write_due()


def text_of(file: ExportFile) -> str:
    assert file.content is not None
    return gzip.decompress(bytes(file.content)).decode("utf-8-sig")


def test_a_missed_week_is_one_file_with_what_the_owner_may_see(ada: User) -> None:
    found = schedule(ada)
    due(found)
    for _ in range(3):  # any number of tasks
        run()
    file = ExportFile.objects.get()
    assert (file.state, file.rows) == ("done", 2)
    assert "near-0" in text_of(file)
    assert "far-0" not in text_of(file)
    found.refresh_from_db()
    assert found.next_run_at > file.due_at + dt.timedelta(days=3) - dt.timedelta(hours=1)


def test_the_filters_of_the_view_hold(ada: User) -> None:
    due(schedule(ada, "q=near-1"))
    run()
    assert ExportFile.objects.get().rows == 1


def test_a_dead_writer_is_replaced_and_gives_up_after_three(
    ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    due(schedule(ada))
    exports.plan_due()
    real = exports._content

    def dies(export: ScheduledExport) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(exports, "_content", dies)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            exports.write_due()
        exports.write_due()  # its lease still runs: nobody else takes it
        ExportFile.objects.update(lease_until=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    exports.write_due()
    file = ExportFile.objects.get()
    assert (file.state, file.attempts) == ("failed", 4)
    assert ExceptionItem.objects.get(kind="export_failed").closed_at is None
    monkeypatch.setattr(exports, "_content", real)
    exports.run_now(file.export_id, actor=SYSTEM)
    exports.write_due()
    assert ExceptionItem.objects.get(kind="export_failed").closed_at, "the next good file closes it"


def test_an_owner_without_the_right_gets_no_file(ada: User) -> None:
    due(schedule(ada))
    Membership.objects.filter(user=ada).update(role="buyer")  # may not see orders
    run()
    file = ExportFile.objects.get()
    assert file.state == "failed"
    assert "may not see this list any more" in file.message
    ada.is_active = False
    ada.save()
    exports.run_now(file.export_id, actor=SYSTEM)
    exports.write_due()
    assert "no longer active" in ExportFile.objects.latest("pk").message


def test_mailed_once(ada: User, settings: Any) -> None:
    with pytest.raises(UserError, match="sends no mail yet"):
        schedule(ada, mail_to="a@example.com")
    settings.EMAIL_HOST = "mail.example"
    with pytest.raises(UserError, match="is no e-mail address"):
        schedule(ada, mail_to="a@example.com, nonsense")
    due(schedule(ada, mail_to="a@example.com; b@example.com"))
    run()
    run()
    assert [one.to for one in mail.outbox] == [["a@example.com", "b@example.com"]]
    assert "near-0" in mail.outbox[0].attachments[0][1]
    file = ExportFile.objects.get()
    assert (file.mail_state, file.lease_until) == ("sent", None)


@pytest.mark.parametrize("moment", ["before the mail", "before its receipt"])
def test_a_worker_that_dies_over_a_mail(
    ada: User, settings: Any, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    class Killed(BaseException):
        pass

    def killed(*args: Any, **kwargs: Any) -> Any:
        raise Killed

    settings.EMAIL_HOST = "mail.example"
    due(schedule(ada, mail_to="a@example.com"))
    with monkeypatch.context() as patched, pytest.raises(Killed):
        if moment == "before the mail":
            patched.setattr(exports, "_mail", killed)
        else:
            patched.setattr("django.core.mail.EmailMessage.send", killed)
        run()
    exports.write_due()
    assert ExportFile.objects.get().state == "done"
    assert not mail.outbox, "its writer may live"
    ExportFile.objects.update(lease_until=now())
    exports.write_due()
    exports.write_due()
    file = ExportFile.objects.get()
    if moment == "before the mail":
        assert (len(mail.outbox), file.mail_state) == (1, "sent"), "it was never begun"
    else:
        assert (len(mail.outbox), file.mail_state) == (0, "unknown"), "never again in doubt"
        assert "may have left" in ExceptionItem.objects.get(kind="export_failed").detail
    assert file.lease_until is None


def test_a_mail_server_that_refuses_is_told(
    ada: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.EMAIL_HOST = "mail.example"
    due(schedule(ada, mail_to="a@example.com"))

    def refuses(self: Any, *args: Any, **kwargs: Any) -> int:
        raise OSError("connection refused")

    monkeypatch.setattr("django.core.mail.EmailMessage.send", refuses)
    run()
    file = ExportFile.objects.get()
    assert (file.state, file.mail_state) == ("done", "failed")
    assert "connection refused" in ExceptionItem.objects.get(kind="export_failed").detail


def test_pause_resume_remove_and_old_files(ada: User) -> None:
    found = schedule(ada)
    due(found)
    exports.pause(found.pk, True, actor=SYSTEM)
    run()
    assert not ExportFile.objects.exists()
    exports.pause(found.pk, False, actor=SYSTEM)
    run()
    assert not ExportFile.objects.exists(), "what was missed while paused is not made up for"
    exports.run_now(found.pk, actor=SYSTEM)
    with pytest.raises(Conflict, match="already"):
        exports.run_now(found.pk, actor=SYSTEM)
    exports.write_due()
    ExportFile.objects.update(due_at=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    assert exports.tidy() == 1
    exports.remove(found.pk, actor=SYSTEM)
    assert SavedView.objects.exists()


def test_who_may_schedule_what(ada: User, world: None) -> None:
    other = make_user("bob", "ops")
    view = lists.save_view(other, "orders:list", "Bob's", "", actor=SYSTEM)
    with pytest.raises(NotFound):
        exports.create(ada, view.pk, every="daily", at=SEVEN, actor=SYSTEM)
    view = lists.save_view(ada, "control:today", "No file", "", actor=SYSTEM)
    with pytest.raises(UserError, match="cannot be written as a file"):
        exports.create(ada, view.pk, every="daily", at=SEVEN, actor=SYSTEM)
    for wrong, words in (({"every": "hourly"}, "daily or weekly"), ({"every": "weekly"}, "day of the week")):
        with pytest.raises(UserError, match=words):
            exports.create(ada, view.pk, at=SEVEN, actor=SYSTEM, **wrong)


def test_every_list_with_a_file_can_be_scheduled(db: None) -> None:
    owner = make_user("omar")
    for name in ("orders:list", "fulfillment:shipments", "control:exceptions", "returns:list",
                 "procurement:orders"):  # fmt: skip
        view = lists.save_view(owner, name, f"All of {name}", "", actor=SYSTEM)
        made = exports.create(owner, view.pk, every="weekly", weekday=0, at=SEVEN, actor=SYSTEM)
        exports.run_now(made.pk, actor=SYSTEM)
    exports.write_due()
    states = dict(ExportFile.objects.values_list("export__view__screen", "state"))
    assert set(states.values()) == {"done"}, states


def test_the_screen(client: Client, ada: User, django_assert_max_num_queries: Callable) -> None:
    view = lists.save_view(ada, "orders:list", "Near ones", "q=near", actor=SYSTEM)
    client.force_login(ada)
    url = reverse("control:exports")
    form = {"view": view.pk, "every": "weekly", "weekday": "4", "at": "06:30"}
    assert client.post(url, form | {"at": "soon"}).status_code == 422
    client.post(url, form)
    made = ScheduledExport.objects.get()
    act = reverse("control:export-act", args=[made.pk])
    client.post(act, {"action": "run"})
    exports.write_due()
    with django_assert_max_num_queries(20):
        shown = client.get(url).content.decode()
    assert "Fridays, 06:30" in shown
    assert "2 rows" in shown
    file = ExportFile.objects.get()
    got = client.get(reverse("control:export-file", args=[file.pk]))
    assert "near-0" in got.content.decode("utf-8-sig")
    assert "near-ones" in got["Content-Disposition"]
    client.post(act, {"action": "pause"})
    assert "Paused" in client.get(url).content.decode()
    client.force_login(make_user("eve", "ops"))
    assert client.get(reverse("control:export-file", args=[file.pk])).status_code == 404
    assert client.post(act, {"action": "remove"}).status_code == 404
