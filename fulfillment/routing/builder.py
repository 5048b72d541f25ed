"""A routing rule as rows of a form and back (pure): groups of conditions, each row a field, an operator and a value.

A form shows two levels: groups joined by *all* or *any*, and in each group conditions joined by *all* or *any*; a group
may be turned round (*not*). A rule nested deeper is not shown as rows: `read()` answers None.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fulfillment.routing.conditions import LINE_FIELDS, LISTS, NUMBERS, ORDER_FIELDS
from fulfillment.routing.model import RANKINGS
from oms.core.errors import UserError

#: (field, words, example)
FIELDS: tuple[tuple[str, str, str], ...] = (
    ("channel", "Channel", "shopify-us, amazon"),
    ("country", "Country", "US, CA"),
    ("region", "State or region", "AK, HI"),
    ("postal", "Postal code", "99500, 99999"),
    ("value", "Value of the goods", "150"),
    ("currency", "Currency", "USD"),
    ("weight_g", "Weight in grams", "5000"),
    ("units", "Units", "10"),
    ("lines", "Lines", "1"),
    ("service", "Service of the order", "express"),
    ("risk", "Risk", "high"),
    ("tags", "Tags", "gift, vip"),
    ("stock_at", "Warehouses that have everything", "EAST"),
    ("sku", "SKU of a line", "MUG-BLU"),
    ("quantity", "Quantity of a line", "5"),
    ("is_kit", "Kit (true or false)", "true"),
    ("attributes", "Brand or category of a line", "Kitchen"),
)
NAMES = {name: words for name, words, _ in FIELDS}
_WORDS = {
    "in": "is one of", "not_in": "is none of", "eq": "is", "ne": "is not", "lt": "is below", "le": "is at most",
    "gt": "is above", "ge": "is at least", "starts": "starts with", "between": "lies between",
    "contains": "contains", "not_contains": "does not contain",
}  # fmt: skip
_LIST_WORDS = {"contains": "has", "not_contains": "has not", "in": "has one of", "not_in": "has none of"}
RANK_WORDS = {
    "on_time": "Arrives in time", "fewest_splits": "Fewest shipments", "ship_day": "Leaves first", "cost": "Cheapest",
    "distance": "Nearest", "priority": "Priority of the warehouse", "balance": "Least work waiting",
}  # fmt: skip
assert set(NAMES) == set(ORDER_FIELDS) | set(LINE_FIELDS) and set(RANK_WORDS) == set(RANKINGS)


def operators(name: str) -> list[tuple[str, str]]:
    """What a field can be compared by, with its words."""
    if name in NUMBERS:
        keys: Sequence[str] = ("lt", "le", "eq", "ne", "ge", "gt", "between", "in", "not_in")
    elif name in LISTS:
        return [(key, _LIST_WORDS[key]) for key in ("in", "not_in")]
    else:
        keys = ("in", "not_in", "eq", "ne", "starts", "contains", "not_contains", "between")
    return [(key, _WORDS[key]) for key in keys]


@dataclass
class Row:
    field: str = "country"
    op: str = "in"
    value: str = ""
    lines: str = "any"

    @property
    def operators(self) -> list[tuple[str, str]]:
        return operators(self.field)

    @property
    def of_lines(self) -> bool:
        return self.field in LINE_FIELDS

    @property
    def example(self) -> str:
        return next((text for name, _, text in FIELDS if name == self.field), "")


@dataclass
class Group:
    join: str = "all"
    negated: bool = False
    rows: list[Row] = field(default_factory=lambda: [Row()])


@dataclass
class Draft:
    """What the form holds."""

    name: str = ""
    active: bool = True
    stop: bool = False
    join: str = "all"
    groups: list[Group] = field(default_factory=list)
    only: list[str] = field(default_factory=list)
    exclude: list[str] = field(default_factory=list)
    prefer: list[str] = field(default_factory=list)
    rank: list[str] = field(default_factory=list)
    max_splits: str = ""
    ship_complete: bool = False
    split_kits: bool = False
    hold: str = ""
    tags: str = ""


# --- stored rule → form -------------------------------------------------------------------------


def read(rule: Mapping[str, Any]) -> Draft | None:
    """The form of a stored rule; None when its conditions are nested deeper than the form shows."""
    then = rule.get("then") or {}
    made = Draft(
        name=str(rule.get("name", "")),
        active=bool(rule.get("active", True)),
        stop=bool(rule.get("stop", False)),
        only=list(then.get("only", [])),
        exclude=list(then.get("exclude", [])),
        prefer=list(then.get("prefer", [])),
        rank=list(then.get("rank", [])),
        max_splits=str(then.get("max_splits", "")),
        ship_complete=bool(then.get("ship_complete")),
        split_kits=bool(then.get("split_kits")),
        hold=str(then.get("hold", "")),
        tags=", ".join(then.get("tags", [])),
    )
    when = rule.get("when") or {}
    if not when:
        return made
    whole = _group(when)
    if whole is not None:
        made.groups = [whole]
        return made
    for join in ("all", "any"):
        if join in when:
            groups = [_group(inner) for inner in when[join]]
            if any(group is None for group in groups):
                return None
            made.join, made.groups = join, [group for group in groups if group is not None]
            return made
    return None


def _group(when: Mapping[str, Any]) -> Group | None:
    if "not" in when:
        inner = _group(when["not"])
        return None if inner is None or inner.negated else Group(inner.join, True, inner.rows)
    for join in ("all", "any"):
        if join in when:
            if not all("field" in inner for inner in when[join]):
                return None
            return Group(join, False, [_row(inner) for inner in when[join]])
    return Group("all", False, [_row(when)]) if "field" in when else None


def _row(condition: Mapping[str, Any]) -> Row:
    value = condition.get("value", "")
    text = ", ".join(str(one) for one in value) if isinstance(value, list | tuple) else str(value)
    op = str(condition["op"])
    if condition["field"] in LISTS:
        op = {"contains": "in", "not_contains": "not_in"}.get(op, op)
    return Row(str(condition["field"]), op, text, str(condition.get("lines", "any")))


# --- form → stored rule -------------------------------------------------------------------------


def posted(data: Mapping[str, Any]) -> Draft:
    """The form as it was sent. Positions that are missing were removed."""
    made = Draft(
        name=" ".join(str(data.get("name", "")).split())[:80],
        active=data.get("active") == "on",
        stop=data.get("stop") == "on",
        join="any" if data.get("join") == "any" else "all",
        max_splits=str(data.get("max_splits", "")).strip()[:6],
        ship_complete=data.get("ship_complete") == "on",
        split_kits=data.get("split_kits") == "on",
        hold=str(data.get("hold", "")).strip()[:120],
        tags=str(data.get("tags", ""))[:400],
    )
    for number in _numbers(data, "g", "join"):
        group = Group(
            "any" if data.get(f"g{number}-join") == "any" else "all",
            data.get(f"g{number}-not") == "on",
            [],
        )
        for row in _numbers(data, f"g{number}-", "-field"):
            at = f"g{number}-{row}"
            name = str(data.get(f"{at}-field", ""))
            op = str(data.get(f"{at}-op", ""))
            known = [key for key, _ in operators(name)]
            group.rows.append(
                Row(
                    name,
                    op if op in known else known[0],
                    str(data.get(f"{at}-value", ""))[:400],
                    "all" if data.get(f"{at}-lines") == "all" else "any",
                )
            )
        made.groups.append(group)
    wishes: list[tuple[int, str]] = []
    for key in data:
        if not key.startswith("use-"):
            continue
        code, use = key[4:], data.get(key)
        if use in ("only", "exclude"):
            (made.only if use == "only" else made.exclude).append(code)
        place = str(data.get(f"prefer-{code}", "")).strip()
        if place.isascii() and place.isdigit():
            wishes.append((int(place), code))
    made.prefer = [code for _, code in sorted(wishes)]
    ranks = [str(data.get(f"rank-{number}", "")) for number in range(1, len(RANKINGS) + 1)]
    made.rank = list(dict.fromkeys(word for word in ranks if word in RANKINGS))
    return made


def _numbers(data: Mapping[str, Any], start: str, end: str) -> list[int]:
    """The positions in names such as g0-join or g0-2-field."""
    found = set()
    for key in data:
        if key.startswith(start) and key.endswith(end):
            middle = key[len(start) : len(key) - len(end)].strip("-")
            if middle.isascii() and middle.isdigit() and len(middle) < 4:
                found.add(int(middle))
    return sorted(found)


def change(draft: Draft, what: str) -> Draft:
    """The form after a press of one of its buttons: add:G, drop:G:R, group, ungroup:G. Unknown words change nothing."""
    word, *places = what.split(":")
    at = [int(place) for place in places if place.isdecimal()]
    groups = draft.groups
    if word == "group":
        groups.append(Group())
    elif word == "add" and len(at) == 1 and at[0] < len(groups):
        groups[at[0]].rows.append(Row())
    elif word == "ungroup" and len(at) == 1 and at[0] < len(groups):
        del groups[at[0]]
    elif word == "drop" and len(at) == 2 and at[0] < len(groups) and at[1] < len(groups[at[0]].rows):
        del groups[at[0]].rows[at[1]]
        if not groups[at[0]].rows:
            del groups[at[0]]
    return draft


def rule_of(draft: Draft, *, places: Sequence[str], kept: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The rule as it is stored. `kept` is the stored rule that is edited: alternatives (`try`) stay as they are.

    Raises `UserError` naming the row and what it needs.
    """
    if not draft.name:
        raise UserError("name: give the rule a name, it is shown with every decision.", field="name")
    groups = [_condition(group, number) for number, group in enumerate(draft.groups, start=1) if group.rows]
    when: dict[str, Any] = {} if not groups else groups[0] if len(groups) == 1 else {draft.join: groups}
    unknown = [code for code in (*draft.only, *draft.exclude, *draft.prefer) if code not in places]
    if unknown:
        raise UserError(f"warehouse: there is no warehouse {unknown[0]}.", field="only")
    then: dict[str, Any] = {}
    for word in ("only", "exclude", "prefer", "rank"):
        if getattr(draft, word):
            then[word] = list(getattr(draft, word))
    if draft.max_splits:
        if not (draft.max_splits.isascii() and draft.max_splits.isdigit() and int(draft.max_splits) >= 1):
            raise UserError(
                "shipments at most: write a whole number of at least 1, or nothing.", field="max_splits"
            )
        then["max_splits"] = int(draft.max_splits)
    for word in ("ship_complete", "split_kits"):
        if getattr(draft, word):
            then[word] = True
    if draft.hold:
        then["hold"] = draft.hold
    tags = [tag for raw in draft.tags.split(",") if (tag := " ".join(raw.split())[:40])]
    if tags:
        then["tags"] = tags
    alternatives = ((kept or {}).get("then") or {}).get("try")
    if alternatives:
        then["try"] = alternatives
    if not then and not draft.stop:
        raise UserError("then: say what the rule does; a rule that does nothing is no rule.", field="then")
    return {"name": draft.name, "active": draft.active, "stop": draft.stop, "when": when, "then": then}


def _condition(group: Group, number: int) -> dict[str, Any]:
    rows = [_one(row, number, place) for place, row in enumerate(group.rows, start=1)]
    made: dict[str, Any] = rows[0] if len(rows) == 1 else {group.join: rows}
    return {"not": made} if group.negated else made


def _one(row: Row, group: int, place: int) -> dict[str, Any]:
    where = f"condition {place} of group {group}"
    if row.field not in NAMES:
        raise UserError(f"{where}: choose a field.", field="when")
    parts = [part.strip() for part in row.value.split(",") if part.strip()]
    if not parts:
        raise UserError(f"{where}: {NAMES[row.field]} needs a value.", field="when")
    value: Any = parts if row.op in ("in", "not_in", "between") else ", ".join(parts)
    if row.field in NUMBERS:
        for part in parts:
            if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,4})?", part):
                raise UserError(f"{where}: '{part[:20]}' is not a number.", field="when")
        if not isinstance(value, list) and len(parts) > 1:
            raise UserError(
                f"{where}: '{row.value[:20]}' is not one number; write thousands without a comma.",
                field="when",
            )
        numbers = [part if "." in part else int(part) for part in parts]
        value = numbers if isinstance(value, list) else numbers[0]
    if row.op == "between" and len(parts) != 2:
        raise UserError(
            f"{where}: write the lowest and the highest value with a comma between them.", field="when"
        )
    made: dict[str, Any] = {"field": row.field, "op": row.op, "value": value}
    if row.of_lines:
        made["lines"] = row.lines
    return made


def sentence(when: Mapping[str, Any]) -> str:
    """The conditions as people read them."""
    if not when:
        return "always"
    for join, word in (("all", " and "), ("any", " or ")):
        if join in when:
            parts = [sentence(inner) for inner in when[join]]
            return word.join(f"({part})" if " or " in part and join == "all" else part for part in parts)
    if "not" in when:
        return f"not ({sentence(when['not'])})"
    row = _row(when)
    words = dict(row.operators)
    suffix = f" on {'every line' if row.lines == 'all' else 'any line'}" if row.of_lines else ""
    value = row.value.replace(", ", " and ") if row.op == "between" else row.value
    return f"{NAMES.get(row.field, row.field)} {words.get(row.op, row.op)} {value}{suffix}"


def effects(then: Mapping[str, Any]) -> list[str]:
    """What a rule does, a phrase each."""
    names = {
        "only": "Only from {}", "exclude": "Never from {}", "prefer": "Prefer {}", "tags": "Tag {}",
        "hold": "Hold: {}", "max_splits": "Shipments at most: {}",
    }  # fmt: skip
    found = []
    for word, value in then.items():
        if word == "rank":
            found.append("Rank by " + ", then ".join(RANK_WORDS.get(one, one).lower() for one in value))
        elif word == "ship_complete":
            found += ["Wait until everything can leave together"] if value else []
        elif word == "split_kits":
            found += ["Kits may leave in parts"] if value else []
        elif word == "try":
            options = " – else ".join(", ".join(effects(one)).lower() or "any warehouse" for one in value)
            found.append(f"First {options}")
        else:
            text = ", ".join(str(one) for one in value) if isinstance(value, list | tuple) else str(value)
            found.append(names.get(word, f"{word} {{}}").format(text))
    return found
