"""Today, exceptions, search, jobs, audit and settings: what they show, to whom, and what they refuse."""

from __future__ import annotations

import datetime as dt
import json
import re
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.cache import cache
from django.test import Client

from oms.control import people, selectors
from oms.core import exceptions_inbox, tokens
from oms.core.actor import SYSTEM, Actor
from oms.core.audit import record
from oms.core.clock import now
from oms.core.errors import Conflict, UserError
from oms.core.exceptions_inbox import raise_item
from oms.core.models import (
    ApiToken,
    AuditEntry,
    ExceptionItem,
    Heartbeat,
    Job,
    JobRow,
    Membership,
    MembershipScope,
    User,
)
from oms.core.roles import ROLES
from oms.orders import intake
from oms.orders.models import Order
from tests.factories import add_stock, line_draft, make_channel, make_sku, make_warehouse, order_draft

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[2]


def person(name: str, role: str, warehouses: tuple[str, ...] = (), channels: tuple[str, ...] = ()) -> User:
    user = User.objects.create_user(name, password="a-long-password-9")
    membership = Membership.objects.create(user=user, role=role)
    for kind, codes in (("warehouse", warehouses), ("channel", channels)):
        for code in codes:
            MembershipScope.objects.create(membership=membership, kind=kind, code=code)
    return user


@pytest.fixture(autouse=True)
def _no_cached_counts() -> None:
    cache.clear()


@pytest.fixture
def owner(client: Client) -> User:
    user = person("owner", "owner")
    client.force_login(user)
    return user


SCREENS = (
    "/", "/exceptions/", "/search/", "/jobs/", "/audit/", "/settings/", "/settings/users/", "/settings/tokens/",
    "/settings/warehouses/", "/settings/system/", "/profile/",
)  # fmt: skip


@pytest.mark.parametrize("path", SCREENS)
def test_every_screen_answers_empty_and_keeps_the_strict_policy(
    client: Client, owner: User, path: str
) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    html = answer.content.decode()
    assert html.count("<h1>") == 1
    assert not re.search(
        r'<[^>]+\sstyle="|<script(?![^>]*\ssrc=)[^>]*>\s*\S|\son\w+="|hx-on|javascript:', html
    )
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", SCREENS)
def test_every_screen_asks_to_log_in(client: Client, path: str) -> None:
    assert client.get(path).headers["Location"] == f"/login/?next={path}"


@pytest.mark.parametrize(
    ("role", "path", "status"),
    [
        ("viewer", "/exceptions/", 403),
        ("viewer", "/audit/", 403),
        ("viewer", "/settings/", 403),
        ("viewer", "/settings/users/", 403),
        ("floor", "/settings/tokens/", 403),
        ("floor", "/exceptions/", 200),
        ("finance", "/audit/", 200),
        ("ops", "/settings/users/", 403),
    ],
)
def test_roles_open_only_their_screens(client: Client, role: str, path: str, status: int) -> None:
    client.force_login(person("someone", role))
    assert client.get(path).status_code == status


def test_navigation_hides_what_the_role_may_not_open(client: Client) -> None:
    client.force_login(person("pat", "threepl", warehouses=("WH-2",)))
    html = client.get("/").content.decode()
    assert 'href="/audit/"' not in html
    assert 'href="/settings/"' not in html
    assert 'href="/jobs/"' in html


# --- Today --------------------------------------------------------------------------------------


@pytest.fixture
def orders() -> list[Order]:
    """Five live orders: late, held and late, backorder, to route, and one on another channel."""
    east = make_warehouse("EAST")
    shop, amazon = make_channel("shop", east), make_channel("amazon", east, prefix="AM")
    mug, rare = make_sku("MUG-BLU"), make_sku("RARE")
    add_stock(mug, east, 50)
    at = now()
    for number, sku in enumerate((mug, mug, rare, mug)):
        draft = order_draft(
            line_draft(sku),
            external_id=f"X{number}",
            external_number=f"10{number}",
            placed_at=at,
            channel_updated_at=at,
        )
        intake.take([draft], channel=shop, actor=SYSTEM, source="poll")
    draft = order_draft(
        line_draft(mug),
        external_id="114-1",
        external_number="114-9988-1",
        placed_at=at,
        channel_updated_at=at,
    )
    intake.take([draft], channel=amazon, actor=SYSTEM, source="poll")
    found = list(Order.objects.order_by("pk"))
    later, before = at + dt.timedelta(days=2), at - dt.timedelta(hours=1)
    Order.objects.update(ship_by=later, holds_open=0)
    Order.objects.filter(pk=found[0].pk).update(ship_by=before)
    Order.objects.filter(pk=found[1].pk).update(ship_by=before, holds_open=1)
    return found


def test_each_live_order_is_in_exactly_one_bucket(owner: User, orders: list[Order]) -> None:
    buckets = {bucket.key: bucket.count for bucket in selectors.health(owner)}
    assert buckets == {
        "on_hold": 1,
        "unmapped": 0,
        "late": 1,
        "backorder": 1,
        "pending": 0,
        "to_route": 2,
        "ready": 0,
    }
    assert sum(buckets.values()) == selectors.live_orders(owner).count() == 5


def test_a_bucket_opens_exactly_the_orders_it_counts(
    client: Client, owner: User, orders: list[Order]
) -> None:
    for bucket in selectors.health(owner):
        assert len(client.get(bucket.query).context["rows"]) == bucket.count, bucket.key


def test_figures_count_only_what_the_person_may_see(orders: list[Order]) -> None:
    support = person("sam", "support", channels=("amazon",))
    numbers = selectors.figures(support)
    assert (numbers.orders_today, numbers.late) == (1, 0)
    assert (numbers.reorder, numbers.sync_count) == (None, None), "no right, no figure"


def test_stock_outs_are_skus_without_an_available_unit(owner: User, orders: list[Order]) -> None:
    assert selectors.figures(owner).stockouts == 0
    cache.clear()
    empty = make_sku("EMPTY")
    west = make_warehouse("WEST")
    add_stock(empty, west, 1)
    add_stock(empty, west, -1)
    assert selectors.figures(owner).stockouts == 1


def test_change_to_last_week_compares_the_same_time_of_day(owner: User, orders: list[Order]) -> None:
    at = now()
    week = at - dt.timedelta(days=7)
    Order.objects.filter(pk__in=[orders[3].pk, orders[4].pk]).update(placed_at=week - dt.timedelta(seconds=1))
    numbers = selectors.figures(owner, at)
    midnight_fell_between = (at - dt.timedelta(seconds=1)).date() != at.date()
    if not midnight_fell_between:
        assert (numbers.orders_today, numbers.orders_change) == (3, 0.5)
        assert numbers.change_text == "+50 % on this time last week"
    few = selectors.Figures(orders_today=45, orders_change=44.0, orders_before=1)
    assert few.change_text == "1 at this time last week", "a share of so few says nothing"


@pytest.mark.parametrize("role", list(ROLES))
@pytest.mark.parametrize("scope", [{}, {"warehouses": ("EAST",)}, {"channels": ("amazon",)}])
def test_today_opens_for_every_role_and_scope(
    client: Client, orders: list[Order], role: str, scope: dict[str, tuple[str, ...]]
) -> None:
    raise_item("no_route", "k", "SH-1 has no route")
    client.force_login(person("someone", role, **scope))
    for path in ("/", "/search/?q=10", "/search/?q=SH-10001", "/jobs/"):
        assert client.get(path).status_code in (200, 302)


def test_unchanged_live_region_answers_204(client: Client, owner: User) -> None:
    html = client.get("/").content.decode()
    version = re.search(r'"version": "([^"]+)"', html)
    assert version
    again = client.get("/", {"version": version[1]}, headers={"HX-Request": "true"})
    assert again.status_code == 204
    raise_item("no_route", "k", "SH-1 has no route")
    changed = client.get("/", {"version": version[1]}, headers={"HX-Request": "true"})
    assert changed.status_code == 200
    assert b"<html" not in changed.content
    assert "HX-Request" in changed.headers["Vary"]


def test_causes_are_sorted_by_the_cost_of_waiting(owner: User) -> None:
    soon = now() + dt.timedelta(hours=1)
    raise_item("drift", "1", "cheap", severity=3, money=Decimal("1"))
    raise_item("reorder", "2", "dear", severity=3, money=Decimal("900"))
    raise_item("no_route", "3", "due", severity=3, due_at=soon)
    raise_item("label_failed", "4", "urgent", severity=1)
    raise_item("label_failed", "5", "urgent too", severity=2)
    causes = selectors.causes(owner)
    assert [cause.kind for cause in causes] == ["label_failed", "no_route", "reorder", "drift"]
    assert (causes[0].count, causes[0].severity, causes[0].label) == (2, 1, "Label not bought")


# --- exceptions ---------------------------------------------------------------------------------


def test_items_of_other_places_are_neither_shown_nor_changed(client: Client) -> None:
    client.force_login(person("fay", "floor", warehouses=("EAST",)))
    raise_item("no_route", "a", "ours at EAST", warehouse_code="EAST")
    theirs = raise_item("no_route", "b", "theirs at WEST", warehouse_code="WEST")
    raise_item("low_stock", "c", "of the whole house")
    html = client.get("/exceptions/").content.decode()
    assert "ours at EAST" in html
    assert "of the whole house" in html
    assert "theirs at WEST" not in html
    client.post("/exceptions/act/", {"ids": [theirs.pk], "action": "close", "why": "not mine"})
    theirs.refresh_from_db()
    assert theirs.closed_at is None


@pytest.mark.parametrize(
    ("role", "sees"),
    [
        ("owner", {"engine_failed", "invariant", "drift", "fx_missing", "low_stock"}),
        ("ops", {"engine_failed", "drift", "fx_missing", "low_stock"}),
        ("datafixer", {"engine_failed", "drift", "low_stock"}),
        ("buyer", {"fx_missing", "low_stock"}),
        ("floor", {"low_stock"}),
        ("viewer", set()),
    ],
)
def test_causes_are_shown_to_those_who_can_mend_them(client: Client, role: str, sees: set[str]) -> None:
    """A picker's inbox holds a picker's work: list, bell and Today agree, and nothing hidden can be acted on."""
    finn = person("finn", role)
    client.force_login(finn)
    raised = {
        kind: raise_item(kind, kind, f"about {kind}")
        for kind in ("engine_failed", "invariant", "drift", "fx_missing", "low_stock")
    }
    assert set(selectors.visible_exceptions(finn).values_list("kind", flat=True)) == sees
    assert {cause.kind for cause in selectors.causes(finn)} == sees
    bell = re.search(r'aria-label="(\d+) open exceptions?"', client.get("/").content.decode())
    assert bell is None if role == "viewer" else bell is not None and int(bell[1]) == len(sees)
    for kind, item in raised.items():
        client.post("/exceptions/act/", {"ids": [item.pk], "action": "take"})
        item.refresh_from_db()
        assert (item.owner == finn) == (kind in sees)


def test_a_token_is_told_what_its_owner_is_told() -> None:
    """Its scopes say what it may call; without the scope for channels it still hears that one drifts."""
    raise_item("drift", "d", "MUG drifts")
    for role, heard in (("ops", 1), ("floor", 0)):
        token, _ = tokens.issue(person(role, role), "pager", ["exceptions:read"], actor=SYSTEM)
        assert selectors.visible_exceptions(token).count() == heard


def test_take_snooze_close_and_reopen(client: Client, owner: User) -> None:
    item = raise_item("no_route", "a", "SH-1 has no route")

    def act(**data: str) -> ExceptionItem:
        client.post("/exceptions/act/", {"ids": [item.pk], **data})
        item.refresh_from_db()
        return item

    assert act(action="take").owner == owner
    assert act(action="snooze", minutes="60").snoozed_until is None, "a snooze wants its reason"
    assert act(action="snooze", minutes="60", reason="carrier answers at noon").snoozed_until is not None
    assert list(exceptions_inbox.open_items()) == []
    assert act(action="close").closed_at is None, "closing wants a word why"
    assert act(action="close", why="re-routed by hand").close_reason == "re-routed by hand"
    assert act(action="reopen").closed_at is None
    done = list(
        AuditEntry.objects.filter(action__startswith="exception.")
        .order_by("pk")
        .values_list("action", flat=True)
    )
    assert done == ["exception.assigned", "exception.snoozed", "exception.closed", "exception.reopened"]


def test_all_matching_follows_the_filters_of_the_list(client: Client, owner: User) -> None:
    for number in range(3):
        raise_item("drift", f"d{number}", "drift")
    raise_item("no_route", "r", "route")
    answer = client.post(
        "/exceptions/act/",
        {"all": "1", "query": "kind=drift", "action": "close", "why": "counted"},
        headers={"HX-Request": "true"},
    )
    assert answer.status_code == 204
    events = json.loads(answer.headers["HX-Trigger"])
    assert events["toast"]["text"] == "3 closed"
    assert "exceptions:changed" in events
    assert list(exceptions_inbox.open_items().values_list("kind", flat=True)) == ["no_route"]


def test_nothing_selected_changes_nothing_and_says_so(client: Client, owner: User) -> None:
    answer = client.post("/exceptions/act/", {"action": "close", "why": "x"}, headers={"HX-Request": "true"})
    assert (
        json.loads(answer.headers["HX-Trigger"])["toast"]["text"]
        == "Nothing is selected: tick at least one row."
    )


def test_hostile_titles_are_text(client: Client, owner: User) -> None:
    raise_item("no_route", "x", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>")
    html = client.get("/exceptions/").content.decode()
    assert "<script>alert(1)" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


# --- search -------------------------------------------------------------------------------------


def test_search_finds_by_every_number_and_code(owner: User, orders: list[Order]) -> None:
    def labels(text: str) -> list[str]:
        return [hit.label for hit in selectors.search(owner, text)]

    number = orders[0].number
    assert labels(number)[:1] == [number]
    assert labels(number.lower())[:1] == [number]
    assert labels("114-9988-1") == [orders[4].number]
    assert labels("mug-blu")[:1] == ["MUG-BLU"]
    assert labels("#101") == [orders[1].number]
    assert labels("nothing-like-this") == []


def test_search_shows_nothing_out_of_reach(orders: list[Order]) -> None:
    support = person("sam", "support", channels=("amazon",))
    assert [hit.kind for hit in selectors.search(support, orders[0].number)] == []
    assert [hit.label for hit in selectors.search(support, orders[4].number)] == [orders[4].number]


# --- jobs and audit -----------------------------------------------------------------------------


def test_people_see_their_own_jobs_and_owners_all(client: Client, owner: User) -> None:
    mine = Job.objects.create(kind="k", title="Import one", created_by="user:fay", state="running", total=10)
    other = Job.objects.create(kind="k", title="Import two", created_by="user:owner")
    assert b"Import one" in client.get("/jobs/").content
    client.force_login(person("fay", "floor"))
    html = client.get("/jobs/").content
    assert b"Import one" in html
    assert b"Import two" not in html
    assert client.get(f"/jobs/{other.pk}/").status_code == 404
    assert client.post(f"/jobs/{other.pk}/stop/").status_code == 404
    assert client.get(f"/jobs/{mine.pk}/stop/").status_code == 405
    client.post(f"/jobs/{mine.pk}/stop/")
    mine.refresh_from_db()
    assert mine.stop_asked


def test_the_part_of_a_job_that_refreshes_itself_brings_the_title_along(client: Client, owner: User) -> None:
    job = Job.objects.create(kind="x", title="Buy labels", created_by="user:owner")
    url = f"/jobs/{job.pk}/"
    assert "<title>Buy labels · Waiting · Lading</title>" in client.get(url).content.decode()
    Job.objects.filter(pk=job.pk).update(state=Job.State.DONE)
    part = client.get(url, {"version": "queued.0.False"}, headers={"HX-Request": "true"}).content.decode()
    assert part.startswith("<title>Buy labels · Done · Lading</title>")
    assert client.get(url).content.decode().count("<title>") == 1


def test_a_job_lists_what_failed_first_and_says_when_it_lists_only_a_part(
    client: Client, owner: User
) -> None:
    job = Job.objects.create(kind="x", title="Tag", created_by="user:owner", state=Job.State.DONE, failed=1)
    JobRow.objects.bulk_create(
        JobRow(job=job, number=number, ok=number != 220, subject=f"SH-{number}") for number in range(1, 231)
    )
    html = client.get(f"/jobs/{job.pk}/").content.decode()
    assert "The first 200 rows, the failed first" in html
    assert re.findall(r'<th scope="row">(SH-\d+)', html)[:2] == ["SH-220", "SH-1"]
    assert "show all" in client.get(f"/jobs/{job.pk}/?only=failed").content.decode()
    JobRow.objects.filter(number__gt=3).delete()
    Job.objects.update(failed=0)
    html = client.get(f"/jobs/{job.pk}/").content.decode()
    assert "3 rows" in html and "only failed" not in html


def test_a_list_of_one_job_is_one_job_and_names_who_started_it(client: Client, owner: User) -> None:
    Job.objects.create(kind="check", title="Check", created_by="task:nightly_check")
    html = client.get("/jobs/").content.decode()
    assert "1 job, newest first" in html
    assert "Nightly check (auto)" in html


def test_the_trail_speaks_in_words(client: Client, owner: User) -> None:
    here = make_warehouse("EAST")
    record(Actor("task", "opening"), "warehouse.opened", here, after={"since": now()}, via="task")
    html = client.get("/audit/").content.decode()
    for words in ("Opening (auto)", f"Warehouse {here.pk}", "Background", f"<ins>{now():%-d %b %Y}"):
        assert words in html
    for raw in ("task:opening", "inventory.warehouse"):
        assert raw not in html.partition('id="results"')[2]


def test_nobody_is_made_an_owner_by_default(client: Client, owner: User) -> None:
    html = client.get("/settings/users/").content.decode()
    chooser = html.partition('<select id="role"')[2].partition("</select>")[0]
    assert "selected" not in chooser
    assert chooser.partition("<option")[2].startswith(' value="">Choose a role')
    answer = client.post("/settings/users/", {"username": "mo", "password": "a-long-password-9", "role": ""})
    assert answer.status_code == 422


def test_the_newest_bar_says_what_the_figure_above_it_says(client: Client, orders: list[Order]) -> None:
    client.force_login(person("lead", "owner"))
    client.get("/")
    Order.objects.filter(pk=orders[0].pk).update(placed_at=now() - dt.timedelta(days=30))
    context = client.get("/").context
    assert context["per_day"][-1] == context["numbers"].orders_today


def test_a_search_with_many_finds_leads_to_all_of_them(client: Client, owner: User) -> None:
    for number in range(6):
        make_sku(f"MUG-{number}")
    html = client.get("/search/?q=mug").content.decode()
    assert html.count('class="kind">SKU') == 5
    assert "/stock/?q=mug" in html


def test_a_worker_is_named_by_host_and_process() -> None:
    Heartbeat.objects.create(name="worker:vm:31023:0", at=now())
    assert "Worker on vm, process 31023" in [one.label for one in selectors.processes()]


def test_audit_filters_and_exports_safe_cells(client: Client, owner: User) -> None:
    user = person("=cmd()", "viewer")
    record(Actor("user", "owner"), "user.created", user, after={"role": "viewer"})
    record(Actor("rule", "Fraud hold"), "order.held", None, before={"held": False}, after={"held": True})
    html = client.get("/audit/?actor=Fraud").content.decode()
    assert "order.held" in html
    assert "user.created" not in html
    assert client.get("/audit/?from=yesterday").status_code == 400
    text = b"".join(client.get("/audit/?format=csv").streaming_content).decode()  # type: ignore[attr-defined]
    assert "'=cmd()" in text


# --- settings -----------------------------------------------------------------------------------


def test_settings_keep_all_or_nothing_and_name_the_field(client: Client, owner: User) -> None:
    from oms.core import business

    good = {"company_name": "Nordkap", "currency": "eur", "service_level": "0.98", "cover_days": "45"}
    fields = [key for key in business.KNOWN if key != "push_paused"]
    form = {key: good.get(key, str(business.KNOWN[key].default)) for key in fields}
    answer = client.post("/settings/", {**form, "cover_days": "many"})
    assert answer.status_code == 422
    assert (
        "Days of demand one order covers: &#x27;many&#x27; is not a whole number" in answer.content.decode()
    )
    assert business.get("company_name") == "Lading"
    assert client.post("/settings/", form).status_code == 302
    assert (business.get("company_name"), business.get("currency"), business.get("cover_days")) == (
        "Nordkap",
        "EUR",
        45,
    )
    entry = AuditEntry.objects.get(action="settings.changed")
    assert entry.after["cover_days"] == 45


def test_settings_with_fixed_values_are_chosen_from_a_list(client: Client, owner: User) -> None:
    from oms.core import business

    html = client.get("/settings/").content.decode()
    fixed = {key: known.choices for key, known in business.KNOWN.items() if known.choices}
    assert set(fixed) == {"valuation", "adjustment_batch", "backorder_priority", "lead_time_risk"}
    for key, choices in fixed.items():
        field = html[html.index(f'<select id="s-{key}"') :].partition("</select>")[0]
        assert re.findall(r'<option value="(\w+)"', field) == [value for value, _ in choices]
        assert f'value="{business.get(key)}" selected' in field
        with pytest.raises(UserError, match="is not one of"):
            business.put(key, "anything")
    form = {key: str(known.default) for key, known in business.KNOWN.items() if key != "push_paused"}
    answer = client.post("/settings/", form | {"backorder_priority": "loudest"})
    assert answer.status_code == 422
    assert "choose one of The earliest ship-by time" in answer.content.decode()
    client.post("/settings/", form | {"backorder_priority": "value"})
    assert business.get("backorder_priority") == "value"


def test_settings_choices_are_what_their_owners_know() -> None:
    from inventory import approvals, valuation
    from oms.core import business
    from oms.orders import allocation

    known = {key: [value for value, _ in business.KNOWN[key].choices] for key in business.KNOWN}
    assert known["valuation"] == list(valuation.METHODS)
    assert known["backorder_priority"] == list(allocation.PRIORITIES)
    assert approvals.ROW in known["adjustment_batch"]


def test_a_new_token_is_shown_once(client: Client, owner: User) -> None:
    form = {"name": "WMS", "scopes": ["stock:read"], "days": "90", "networks": "203.0.113.0/24"}
    html = client.post("/settings/tokens/", form).content.decode()
    shown = re.search(r"oms_[a-z0-9]{8}_[\w-]{43}", html)
    assert shown
    found = tokens.authenticate(shown[0], "203.0.113.9")
    assert found is not None
    assert (found.name, found.scopes) == ("WMS", ["stock:read"])
    assert shown[0] not in client.get("/settings/tokens/").content.decode()
    client.post(f"/settings/tokens/{found.pk}/revoke/")
    assert tokens.authenticate(shown[0], "203.0.113.9") is None


def test_wrong_token_forms_make_no_token(client: Client, owner: User) -> None:
    for form in (
        {"name": "x", "days": "90"},
        {"name": "", "scopes": ["stock:read"], "days": "90"},
        {"name": "x", "scopes": ["root:all"], "days": "90"},
        {"name": "x", "scopes": ["stock:read"], "days": "9999"},
    ):
        assert client.post("/settings/tokens/", form).status_code == 422
    assert ApiToken.objects.count() == 0


def test_switching_a_user_off_ends_sessions_and_tokens(client: Client, owner: User) -> None:
    fay = person("fay", "floor")
    theirs = Client()
    theirs.force_login(fay)
    token, text = tokens.issue(fay, "scanner", ["stock:read"], actor=SYSTEM)
    assert theirs.get("/profile/").status_code == 200
    client.post(f"/settings/users/{fay.pk}/act/", {"action": "disable"})
    assert theirs.get("/profile/").status_code == 302
    assert tokens.authenticate(text, "127.0.0.1") is None
    token.refresh_from_db()
    assert token.revoked_at is not None


def test_the_last_owner_stays(owner: User) -> None:
    with pytest.raises(Conflict, match="last owner"):
        people.set_role(owner, people.Role("viewer"), actor=SYSTEM)
    with pytest.raises(Conflict, match="last owner"):
        people.set_active(owner, False, actor=SYSTEM)
    owner.refresh_from_db()
    assert owner.is_active
    assert [role.name for role in people.roles_of(owner)] == ["owner"]


def test_a_role_holds_where_it_is_given(client: Client, owner: User) -> None:
    make_warehouse("EAST")
    form = {"username": "fay", "password": "a-long-password-9", "role": "floor", "warehouses": ["EAST"]}
    assert client.post("/settings/users/", form).status_code == 302
    fay = User.objects.get(username="fay")
    assert people.roles_of(fay) == [people.Role("floor", ("EAST",))]
    wrong = client.post("/settings/users/", {**form, "username": "joe", "warehouses": ["MOON"]})
    assert wrong.status_code == 422
    assert not User.objects.filter(username="joe").exists()


# --- the shell's own files ----------------------------------------------------------------------


def test_templates_hold_nothing_that_the_policy_forbids() -> None:
    forbidden = re.compile(
        r'\sstyle="|<style|\son[a-z]+="|hx-on|hx-vals=.js:|javascript:|https?://(?!www\.w3\.org)|<script>'
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted((ROOT / "templates").rglob("*.html"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if forbidden.search(re.sub(r"{%.*?%}", "", line))
    ]
    assert found == []
