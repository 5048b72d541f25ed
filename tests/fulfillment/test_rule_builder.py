"""Routing rules as rows of a form: nothing of a rule is lost, drafts are tried and published (F02, A01, A04, A05)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from fulfillment import routing_service, rules
from fulfillment.models import RoutingDecision, RoutingDraft, RoutingPolicy, Shipment
from fulfillment.routing import builder
from fulfillment.routing.conditions import LINE_FIELDS, NUMBERS
from fulfillment.routing.model import policy_from
from oms.core.actor import SYSTEM, Actor
from oms.core.errors import Conflict, UserError
from oms.core.models import AuditEntry
from tests.factories import make_user, make_warehouse
from tests.fulfillment.conftest import World

ANA = Actor("user", "ana")
US = {"name": "US", "active": True, "stop": False, "when": {"field": "country", "op": "in", "value": ["US"]}}
FROM_WEST = US | {"then": {"prefer": ["WEST", "EAST"]}}


# --- the form, without a database -----------------------------------------------------------------


@st.composite
def conditions(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(st.sampled_from([name for name, _, _ in builder.FIELDS]))
    op = draw(st.sampled_from([key for key, _ in builder.operators(name)]))
    if name in NUMBERS:
        value: Any = draw(st.lists(st.integers(0, 9999), min_size=1, max_size=3))
    else:
        value = draw(st.lists(st.text("ABCxyz0-", min_size=1, max_size=6), min_size=1, max_size=3))
    if op == "between":
        value = [value[0], value[0]]
    elif op not in ("in", "not_in"):
        value = value[0]
    return {"field": name, "op": op, "value": value} | ({"lines": "all"} if name in LINE_FIELDS else {})


@st.composite
def whens(draw: st.DrawFn) -> dict[str, Any]:
    groups = []
    for _ in range(draw(st.integers(0, 3))):
        rows = draw(st.lists(conditions(), min_size=1, max_size=3))
        group: dict[str, Any] = rows[0] if len(rows) == 1 else {draw(st.sampled_from(["all", "any"])): rows}
        groups.append({"not": group} if draw(st.booleans()) else group)
    if len(groups) == 1:
        return groups[0]
    return {draw(st.sampled_from(["all", "any"])): groups} if groups else {}


def sent(draft: builder.Draft) -> dict[str, str]:
    """What a browser sends for a form."""
    data = {"name": draft.name, "join": draft.join, "max_splits": draft.max_splits, "hold": draft.hold,
            "tags": draft.tags}  # fmt: skip
    for flag in ("active", "stop", "ship_complete", "split_kits"):
        if getattr(draft, flag):
            data[flag] = "on"
    for g, group in enumerate(draft.groups):
        data[f"g{g}-join"] = group.join
        if group.negated:
            data[f"g{g}-not"] = "on"
        for r, row in enumerate(group.rows):
            data |= {f"g{g}-{r}-field": row.field, f"g{g}-{r}-op": row.op, f"g{g}-{r}-value": row.value,
                     f"g{g}-{r}-lines": row.lines}  # fmt: skip
    for code in ("EAST", "WEST", "OHIO"):
        data[f"use-{code}"] = "only" if code in draft.only else "exclude" if code in draft.exclude else ""
        data[f"prefer-{code}"] = str(draft.prefer.index(code) + 1) if code in draft.prefer else ""
    for number, word in enumerate(draft.rank, start=1):
        data[f"rank-{number}"] = word
    return data


@given(when=whens())
def test_a_rule_read_sent_and_stored_is_the_same_rule(when: dict[str, Any]) -> None:
    rule = {
        "name": "Rule", "active": True, "stop": True, "when": when,
        "then": {"only": ["EAST", "WEST"], "prefer": ["WEST", "EAST"], "rank": ["cost", "distance"],
                 "max_splits": 2, "ship_complete": True, "hold": "look", "tags": ["a", "b"]},
    }  # fmt: skip
    policy_from(1, [rule])
    form = builder.read(rule)
    assert form is not None
    stored = builder.rule_of(builder.posted(sent(form)), places=["EAST", "WEST", "OHIO"])
    assert stored["then"] == {**rule["then"], "only": stored["then"]["only"]}  # type: ignore[dict-item]
    assert _same(stored["when"], when)
    policy_from(1, [stored])
    assert builder.sentence(stored["when"])


def _same(one: Any, other: Any) -> bool:
    """Equal but for groups of one row and 1 against "1"."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    return str(one) == str(other)


def test_a_rule_nested_deeper_than_the_form_is_not_flattened() -> None:
    deep = {"all": [{"any": [{"all": [US["when"], US["when"]]}, US["when"]]}, US["when"]]}
    assert builder.read({"name": "x", "when": deep, "then": {"tags": ["a"]}}) is None


def test_alternatives_survive_an_edit() -> None:
    rule = FROM_WEST | {"then": {"try": [{"only": ["EAST"]}, {"only": ["WEST"]}]}}
    form = builder.read(rule)
    assert form is not None
    assert builder.rule_of(form, places=["EAST"], kept=rule)["then"]["try"] == rule["then"]["try"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": ""}, "give the rule a name"),
        ({"g0-0-value": " "}, "Country needs a value"),
        ({"g0-0-field": "weight_g", "g0-0-op": "gt", "g0-0-value": "heavy"}, "'heavy' is not a number"),
        ({"g0-0-field": "weight_g", "g0-0-op": "gt", "g0-0-value": "5²"}, "'5²' is not a number"),
        ({"g0-0-field": "value", "g0-0-op": "gt", "g0-0-value": "1,500"}, "thousands without a comma"),
        ({"g0-0-field": "postal", "g0-0-op": "between", "g0-0-value": "1"}, "with a comma between"),
        ({"tags": ""}, "say what the rule does"),
        ({"max_splits": "0"}, "at least 1"),
        ({"use-MOON": "only"}, "no warehouse MOON"),
    ],
)
def test_a_wrong_row_is_named(values: dict[str, str], words: str) -> None:
    good = {
        "name": "x",
        "tags": "a",
        "g0-join": "all",
        "g0-0-field": "country",
        "g0-0-op": "in",
        "g0-0-value": "US",
    }
    with pytest.raises(UserError, match=words):
        builder.rule_of(builder.posted(good | values), places=["EAST"])


def test_the_buttons_of_the_form() -> None:
    form = builder.Draft(groups=[builder.Group()])
    builder.change(form, "add:0")
    builder.change(form, "group")
    assert [len(group.rows) for group in form.groups] == [2, 1]
    builder.change(form, "drop:0:0")
    builder.change(form, "drop:1:0")
    assert [len(group.rows) for group in form.groups] == [1]
    for nonsense in ("", "add:9", "drop:0:9", "drop:x", "boo"):
        builder.change(form, nonsense)
    assert [len(group.rows) for group in form.groups] == [1]


# --- the draft ----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_draft_is_changed_taken_back_and_published() -> None:
    make_warehouse("WEST"), make_warehouse("EAST")
    routing_service.publish([FROM_WEST, FROM_WEST | {"name": "Second"}], actor=SYSTEM)
    rules.move(1, -1, version=0, base=1, actor=ANA)
    found = rules.draft()
    assert found is not None
    assert [rule["name"] for rule in found.rules] == ["Second", "US"]
    assert [rule["name"] for rule in rules.active_rules()] == ["US", "Second"], "nothing is in force yet"
    rules.switch(0, False, version=found.version, base=1, actor=ANA)
    rules.remove(1, version=found.version + 1, base=1, actor=ANA)
    rules.undo(version=found.version + 2, base=1, actor=ANA)
    current, version, _ = rules.current()
    assert [rule["name"] for rule in current] == ["Second", "US"]
    made = rules.publish(version=version, note="West first", actor=ANA)
    assert (made.version, made.is_active, made.rules[0]["active"]) == (2, True, False)
    assert not RoutingDraft.objects.exists()
    told = AuditEntry.objects.filter(action="routing.published").order_by("pk")
    assert [one.after["version"] for one in told] == [1, 2], "whichever door they came by"
    rules.restore(1, version=0, actor=ANA)
    assert [rule["name"] for rule in rules.current()[0]] == ["US", "Second"]
    rules.discard(actor=ANA)
    assert rules.current()[1] == 0


@pytest.mark.django_db
def test_two_people_do_not_overwrite_each_other() -> None:
    rules.save(None, FROM_WEST, version=0, base=0, actor=ANA)
    with pytest.raises(Conflict, match="changed the draft meanwhile"):
        rules.save(None, FROM_WEST, version=0, base=0, actor=ANA)
    with pytest.raises(Conflict, match="changed meanwhile"):
        rules.publish(version=7, note="", actor=ANA)
    assert not RoutingPolicy.objects.exists()


@pytest.mark.django_db
def test_rules_published_over_the_api_are_not_overwritten_unseen() -> None:
    make_warehouse("WEST"), make_warehouse("EAST")
    draft = rules.save(None, FROM_WEST, version=0, base=0, actor=ANA)
    routing_service.publish([FROM_WEST | {"name": "Second"}], actor=SYSTEM)
    with pytest.raises(Conflict, match="version 1 was published"):
        rules.publish(version=draft.version, note="", actor=ANA)
    assert RoutingPolicy.objects.get(is_active=True).rules[0]["name"] == "Second"
    for seen in (0, 1):  # the editor's page is older than version 1, or shows it
        with pytest.raises(Conflict, match="version 1 was published by .* meanwhile"):
            rules.save(None, FROM_WEST | {"name": "Third"}, version=draft.version, base=seen, actor=ANA)
    assert [rule["name"] for rule in rules.current().rules] == ["US"], "nothing of it is kept"
    with pytest.raises(Conflict, match="look at it"):
        rules.keep(version=draft.version, base=0, actor=ANA)
    kept = rules.keep(version=draft.version, base=1, actor=ANA)
    seen = rules.save(None, FROM_WEST | {"name": "Second"}, version=kept.version, base=1, actor=ANA)
    assert rules.publish(version=seen.version, note="", actor=ANA).version == 2


@pytest.mark.django_db
def test_a_page_from_before_a_version_begins_no_draft_over_it() -> None:
    """The rule at a place may be another one by now: replacing it would lose what somebody has just published."""
    make_warehouse("WEST"), make_warehouse("EAST")
    routing_service.publish([FROM_WEST], actor=SYSTEM)
    page = rules.current()
    routing_service.publish([FROM_WEST | {"name": "New first"}, FROM_WEST], actor=SYSTEM)
    with pytest.raises(Conflict, match="version 2 was published by .* meanwhile; look at it"):
        rules.save(0, FROM_WEST | {"name": "Mine"}, version=page.version, base=page.base, actor=ANA)
    assert rules.draft() is None
    seen = rules.current()
    assert (
        rules.save(1, FROM_WEST | {"name": "Mine"}, version=seen.version, base=seen.base, actor=ANA).base == 2
    )


@pytest.mark.django_db
def test_a_rule_never_names_a_warehouse_that_is_not_there() -> None:
    """One `only` of an unknown code would leave every order without a route."""
    make_warehouse("WEST")
    for then in ({"only": ["MOON"]}, {"try": [{"only": ["WEST"]}, {"exclude": ["MOON"]}]}):
        with pytest.raises(UserError, match="rules: US: there is no warehouse 'MOON'"):
            routing_service.publish([US | {"then": then}], actor=SYSTEM)
    assert not RoutingPolicy.objects.exists()
    routing_service.publish([US | {"then": {"only": ["WEST"]}}], actor=SYSTEM)


ALL_US = {"field": "country", "op": "eq", "value": "US"}


def _deep(times: int) -> dict[str, Any]:
    found: dict[str, Any] = ALL_US
    for _ in range(times):
        found = {"not": found}
    return found


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({"when": {"all": "US"}}, "'all' is a list of conditions"),
        ({"when": {"all": [1]}}, "a condition is an object"),
        ({"when": {"not": []}}, "a condition is an object"),
        ({"when": {"all": [], "any": []}}, "any stands beside 'all'"),
        ({"when": ALL_US | {"values": 1}}, "unknown word values"),
        ({"when": ALL_US | {"field": ["country"]}}, "unknown field"),
        ({"when": ALL_US | {"value": {"a": 1}}}, "'country' is compared with a text"),
        ({"when": ALL_US | {"value": None}}, "'country' is compared with a text"),
        ({"when": {"field": "value", "op": "gt", "value": "NaN"}}, "'value' needs a number"),
        ({"when": _deep(300)}, "more than 20 deep"),
        ({"then": {"try": [1]}}, "what a rule does is an object"),
        ({"then": {"only": [{}]}}, "only is a list of texts"),
        ({"then": {"tags": [1]}}, "tags is a list of texts"),
        ({"then": {"hold": 5}}, "hold is the reason"),
    ],
)
def test_a_rule_from_a_program_is_read_whole_or_refused_in_words(rule: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match="^x: ") as refused:
        policy_from(0, [{"name": "x", **rule}])
    assert sentence in str(refused.value)
    policy_from(0, [{"name": "x", "when": {"all": [_deep(3), ALL_US]}}])


@pytest.mark.django_db
def test_a_rule_that_the_router_cannot_read_never_gets_in() -> None:
    with pytest.raises(UserError, match="unknown action"):
        rules.save(None, FROM_WEST | {"then": {"teleport": True}}, version=0, base=0, actor=ANA)
    assert not RoutingDraft.objects.exists()


# --- the trial ----------------------------------------------------------------------------------


def test_the_trial_says_what_would_change_and_writes_nothing(world: World) -> None:
    shipments = [world.routed(1) for _ in range(3)]
    before = (RoutingDecision.objects.count(), Shipment.objects.count())
    assert {shipment.warehouse.code for shipment in shipments} == {"EAST"}
    trial = rules.try_out([FROM_WEST], orders=world.channel.orders.all())
    assert trial.tried == 3
    assert {(change.before, change.after) for change in trial.changes} == {("EAST (1)", "WEST (1)")}
    assert trial.changes[0].rules == ("US",)
    assert (RoutingDecision.objects.count(), Shipment.objects.count()) == before
    assert not rules.try_out([FROM_WEST | {"active": False}], orders=world.channel.orders.all()).changes
    assert rules.try_out([FROM_WEST], orders=world.channel.orders.none()).tried == 0


# --- screens ------------------------------------------------------------------------------------


def test_a_rule_is_built_by_clicks(
    client: Client, world: World, django_assert_max_num_queries: Callable
) -> None:
    world.routed(1)
    client.force_login(make_user("omar"))
    htmx = {"HX-Request": "true"}
    form = {"version": "0", "base": "0", "name": "West first", "g0-join": "all", "g0-0-field": "country",
            "g0-0-op": "in", "g0-0-value": "US", "prefer-WEST": "1", "use-WEST": "", "active": "on"}  # fmt: skip
    new = reverse("fulfillment:rule_new")
    assert client.get(new).status_code == 200
    more = client.post(new, form | {"do": "add:0"}, headers=htmx).content.decode()
    assert 'name="g0-1-value"' in more
    assert 'value="US"' in more
    assert client.post(new, form | {"do": "save", "name": ""}, headers=htmx).status_code == 422
    assert client.post(new, form | {"do": "save"}, headers=htmx)["HX-Redirect"] == "/routing/"
    with django_assert_max_num_queries(20):
        page = client.get("/routing/").content.decode()
    assert "Draft, not in force" in page
    assert "Country is one of US" in page
    trial = client.get(reverse("fulfillment:rules_try"), headers=htmx).content.decode()
    assert "1 of 1" in trial
    assert "West first: " in trial
    client.post(
        reverse("fulfillment:rules_act"), {"do": "publish", "version": "1", "base": "0", "note": "go"}
    )
    assert RoutingPolicy.objects.get(is_active=True).rules[0]["then"] == {"prefer": ["WEST"]}
    edit = client.get(reverse("fulfillment:rule", args=[0])).content.decode()
    assert 'value="West first"' in edit


def test_order_of_rules_by_keyboard_keeps_the_focus(client: Client, world: World) -> None:
    routing_service.publish([FROM_WEST, FROM_WEST | {"name": "Second"}], actor=SYSTEM)
    client.force_login(make_user("omar"))
    url = reverse("fulfillment:rules_act")
    posted = {"do": "up:1", "version": "0", "base": "1"}
    answer = client.post(url, posted, headers={"HX-Request": "true"}).content.decode()
    assert answer.index("Second") < answer.index(">US<")
    # it is the first now: its own "up" is off, the focus goes to "down"
    row = answer[answer.index('id="rule-0"') : answer.index('id="rule-1"')]
    assert row.count("data-focus") == 1
    assert row.index("data-focus") > row.index('value="down:0"')


def test_a_draft_that_was_outrun_is_kept_by_a_click(client: Client, world: World) -> None:
    client.force_login(make_user("omar"))
    rules.save(None, FROM_WEST, version=0, base=0, actor=ANA)
    routing_service.publish([FROM_WEST | {"name": "Second"}], actor=ANA)
    page = client.get("/routing/").content.decode()
    assert "publishing the draft would undo it" in page
    assert 'data-open="publish"' not in page
    url = reverse("fulfillment:rules_act")
    client.post(url, {"do": "publish", "version": "1", "base": "1", "note": ""})
    assert RoutingPolicy.objects.get(is_active=True).rules[0]["name"] == "Second", "refused"
    client.post(url, {"do": "keep", "version": "1", "base": "1"})
    assert 'data-open="publish"' in client.get("/routing/").content.decode()


def test_who_may_only_look_changes_nothing(client: Client, world: World) -> None:
    client.force_login(make_user("vera", "viewer"))
    assert client.get("/routing/").status_code == 200
    assert client.get(reverse("fulfillment:rule_new")).status_code == 403
    answer = client.post(reverse("fulfillment:rules_act"), {"do": "discard", "version": "0", "base": "0"})
    assert answer.status_code == 403
