from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from oms.core import audit, invariants
from oms.core import exceptions_inbox as inbox
from oms.core.access import NOWHERE, Scope, can, require, scope_of
from oms.core.actor import SYSTEM, Actor
from oms.core.clock import now
from oms.core.current import acting
from oms.core.errors import Conflict, NotAllowed, NotFound, UserError
from oms.core.models import (
    ApiToken,
    AuditEntry,
    ExceptionItem,
    Heartbeat,
    Membership,
    OutboxEvent,
    User,
)

pytestmark = pytest.mark.django_db


def user(name: str = "ada", **grants: tuple[tuple[str, ...], tuple[str, ...]]) -> User:
    """A user with memberships: role=((warehouses), (channels))."""
    made = User.objects.create_user(name, password="correct horse battery")
    for role, (warehouses, channels) in grants.items():
        membership = Membership.objects.create(user=made, role=role)
        for code in warehouses:
            membership.scopes.create(kind="warehouse", code=code)
        for code in channels:
            membership.scopes.create(kind="channel", code=code)
    return made


def token(owner: User, scopes: list[str], **limits: list[str]) -> ApiToken:
    return ApiToken.objects.create(
        name="t",
        user=owner,
        prefix="abcdefgh",
        digest="",
        scopes=scopes,
        expires_at=now() + dt.timedelta(days=1),
        **limits,
    )


def test_no_membership_no_rights() -> None:
    nobody = user()
    assert not can(nobody, "stock.view")
    assert scope_of(nobody, "stock.view") == NOWHERE
    assert not NOWHERE.covers("EAST")
    with pytest.raises(NotAllowed, match="You need the right to see stock"):
        require(nobody, "stock.view")


def test_scoped_membership_holds_only_there_and_foreign_objects_do_not_exist() -> None:
    floor = user(floor=(("EAST",), ()))
    assert can(floor, "shipping.work", warehouse_code="EAST")
    assert not can(floor, "shipping.work", warehouse_code="WEST")
    assert scope_of(floor, "shipping.work") == Scope(frozenset({"EAST"}), None)
    with pytest.raises(NotFound):
        require(floor, "shipping.work", warehouse_code="WEST")
    with pytest.raises(NotAllowed):
        require(floor, "orders.edit", warehouse_code="EAST")


def test_memberships_limited_in_different_dimensions_do_not_add_up() -> None:
    both = user(floor=(("EAST",), ()), ops=((), ("amazon",)))
    assert can(both, "shipping.work", "EAST", "shopify")
    assert can(both, "shipping.work", "WEST", "amazon")
    assert not can(both, "shipping.work", "WEST", "shopify")
    assert scope_of(both, "shipping.work") == Scope(frozenset({"EAST"}), None)


def test_memberships_limited_alike_add_up() -> None:
    two = user(floor=(("EAST",), ()), ops=(("WEST",), ()))
    assert scope_of(two, "stock.view") == Scope(frozenset({"EAST", "WEST"}), None)


def test_inactive_people_and_unknown_permissions() -> None:
    owner = user(owner=((), ()))
    assert scope_of(owner, "settings.manage") == Scope()
    owner.is_active = False
    assert not can(owner, "stock.view")
    with pytest.raises(ValueError, match="unknown permission"):
        can(owner, "stock.fly")


def test_a_token_never_has_more_than_its_owner() -> None:
    viewer = user(viewer=(("EAST", "WEST"), ()))
    writing = token(viewer, ["stock:read", "stock:write"], warehouses=["WEST", "NORTH"])
    assert not can(writing, "stock.adjust")
    assert scope_of(writing, "stock.view") == Scope(frozenset({"WEST"}), None)
    assert not can(writing, "orders.view")  # its owner may, its scopes do not


def test_audit_entries_refuse_change_and_removal() -> None:
    entry = audit.record(SYSTEM, "probe", None)
    for attempt in (
        lambda: AuditEntry.objects.filter(pk=entry.pk).update(actor="x"),
        lambda: AuditEntry.objects.filter(pk=entry.pk)._raw_delete("default"),  # type: ignore[attr-defined]
    ):
        with pytest.raises((DatabaseError, IntegrityError), match="append-only"), transaction.atomic():
            attempt()
    assert AuditEntry.objects.get().actor == "system:lading"


def test_audit_line_names_actor_address_and_request_and_masks_secrets() -> None:
    person = user()
    with acting(request_id="r1", via="api", address="203.0.113.9"):
        audit.record(
            Actor("user", "ada"),
            "user.changed",
            person,
            before={"api_key": ""},
            after={"api_key": "k", "n": 1},
        )
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.via, entry.address, entry.request_id) == (
        "user:ada",
        "api",
        "203.0.113.9",
        "r1",
    )
    assert (entry.object_type, entry.object_id, entry.object_label) == ("core.user", str(person.pk), "ada")
    assert (entry.before, entry.after) == ({"api_key": ""}, {"api_key": "***", "n": 1})


def without_trigger(sql: str) -> None:
    """What someone with the database password could do."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute("ALTER TABLE core_auditentry DISABLE TRIGGER USER")
            cursor.execute("ALTER TABLE core_auditseal DISABLE TRIGGER USER")
        else:
            for table in ("core_auditentry", "core_auditseal"):
                for verb in ("update", "delete"):
                    cursor.execute(f"DROP TRIGGER {table}_no_{verb}")
        cursor.execute(sql)
        if connection.vendor == "postgresql":
            cursor.execute("ALTER TABLE core_auditentry ENABLE TRIGGER USER")
            cursor.execute("ALTER TABLE core_auditseal ENABLE TRIGGER USER")


def test_the_chain_holds_and_tampering_shows() -> None:
    entries = [audit.record(SYSTEM, f"step{number}", None) for number in range(3)]
    assert audit.seal() == 3
    assert audit.seal() == 0
    audit.record(SYSTEM, "later", None)
    assert audit.seal() == 1
    assert list(audit.verify()) == []
    assert audit.head()[0] == 4
    without_trigger(f"UPDATE core_auditentry SET actor = 'user:mallory' WHERE id = {entries[1].pk}")
    assert list(audit.verify()) == [f"audit entry {entries[1].pk} does not match its seal 2"]


def test_a_removed_seal_shows() -> None:
    for number in range(3):
        audit.record(SYSTEM, f"step{number}", None)
    audit.seal()
    without_trigger("DELETE FROM core_auditseal WHERE number = 2")
    assert "audit seals 2 to 2 are missing" in list(audit.verify())


def test_a_rotated_key_still_verifies(settings: object) -> None:
    audit.record(SYSTEM, "old", None)
    audit.seal()
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]  # type: ignore[attr-defined]
    settings.SECRET_KEY = "n" * 50  # type: ignore[attr-defined]
    audit.record(SYSTEM, "new", None)
    audit.seal()
    assert list(audit.verify()) == []
    settings.SECRET_KEY_FALLBACKS = []  # type: ignore[attr-defined]
    assert len(list(audit.verify())) == 1


def test_one_open_item_per_cause_counts_and_keeps_the_newest_words() -> None:
    inbox.raise_item("no_route", "route:1", "No route", "first")
    item = inbox.raise_item("no_route", "route:1", "No route", "second", severity=inbox.Severity.URGENT)
    assert (item.seen, item.detail, item.severity) == (2, "second", 1)
    assert ExceptionItem.objects.count() == 1
    assert inbox.close_item("route:1", "routed") is True
    assert inbox.close_item("route:1", "routed") is False
    inbox.raise_item("no_route", "route:1", "No route")
    assert list(ExceptionItem.objects.order_by("id").values_list("closed_by", "seen")) == [
        ("system:lading", 2),
        ("", 1),
    ]


def test_the_database_refuses_a_second_open_item() -> None:
    inbox.raise_item("k", "same", "t")
    with pytest.raises(IntegrityError), transaction.atomic():
        ExceptionItem.objects.create(kind="k", dedup_key="same", title="t")


def test_snooze_needs_a_reason_and_hides_until_then() -> None:
    person, actor = user(), Actor("user", "ada")
    item = inbox.raise_item("k", "d", "t")
    with pytest.raises(UserError, match="reason: say why"):
        inbox.snooze(item.pk, now() + dt.timedelta(hours=1), " ", actor=actor)
    with pytest.raises(UserError, match="until: choose a time in the future"):
        inbox.snooze(item.pk, now(), "later", actor=actor)
    inbox.snooze(item.pk, now() + dt.timedelta(hours=1), "carrier calls back", actor=actor)
    assert not inbox.open_items().exists()
    assert inbox.open_items(now() + dt.timedelta(hours=2)).get() == item
    assert inbox.assign(item.pk, person, actor=actor).owner == person


def test_resolve_and_reopen() -> None:
    actor = Actor("user", "ada")
    item = inbox.raise_item("k", "d", "t")
    with pytest.raises(Conflict):
        inbox.reopen(item.pk, actor=actor)
    inbox.resolve(item.pk, "address corrected", actor=actor)
    with pytest.raises(Conflict, match="already closed by user:ada"):
        inbox.resolve(item.pk, "again", actor=actor)
    inbox.reopen(item.pk, actor=actor)
    assert inbox.open_items().count() == 1
    with pytest.raises(NotFound):
        inbox.resolve(999_999, "x", actor=actor)
    assert list(AuditEntry.objects.order_by("id").values_list("action", flat=True)) == [
        "exception.closed",
        "exception.reopened",
    ]


def failures(id: str) -> list[str]:
    return invariants.run([id])[0].failures


def test_ground_floor_invariants_find_what_is_wrong(assert_invariants: Callable[[], None]) -> None:
    assert_invariants()
    from oms.core.models import IdempotencyRecord

    IdempotencyRecord.objects.create(actor="a", route="POST /x", key="k", digest="d", status=500)
    assert len(failures("I1")) == 1
    old = now() - dt.timedelta(minutes=5)
    OutboxEvent.objects.create(topic="t", key="9", created_at=old)
    assert failures("Q1") == []  # nobody runs: nobody is late
    Heartbeat.objects.create(name="dispatcher", at=now())
    Heartbeat.objects.create(name="worker", at=old)
    assert [row.split(" waits")[0].split(" for 3")[0] for row in failures("Q1")] == [
        f"outbox event {OutboxEvent.objects.get().pk} (t 9)",
        "no worker was heard of",
    ]


def test_an_unencrypted_credential_is_found() -> None:
    from channels.models import ChannelAccount

    column = next(f for f in ChannelAccount._meta.concrete_fields if type(f).__name__.startswith("Encrypted"))
    assert column.get_prep_value({"token": "k1:plain"}).startswith("k1:gAAAA")
    assert column.get_prep_value("k1:looks encrypted").startswith("k1:gAAAA")
    assert failures("D2") == []
