"""Which warehouse ships what: filter, rank, allocate, split, with every loser's reason (F01–F07, 2.2).

Pure and deterministic: the same order, stock and policy version give the same plan, and a stored trace can be
replayed from its own inputs.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict
from decimal import Decimal
from itertools import combinations
from typing import Any

from fulfillment.routing.conditions import failing
from fulfillment.routing.model import (
    DEFAULT_RANK, LineView, OrderView, Part, Plan, Policy, WarehouseView, policy_from,
)  # fmt: skip

OPERATOR_POOLS = ("fba", "wfs")
MAX_SPLITS = 3


def plan(order: OrderView, warehouses: Sequence[WarehouseView], policy: Policy) -> Plan:
    """Decide where each line is shipped from.

    Never more than a warehouse has, nothing lost: placed + short = ordered per line. FBA and WFS pools serve
    only when every line they take allows it (MCF).
    """
    trace: dict[str, Any] = {"policy": policy.version, "rules": [], "candidates": []}
    if order.blocked:
        return _end("blocked", order, (), trace, order.blocked)
    if not order.lines:
        return _end("routed", order, (), trace, "Nothing is left to be placed.")
    wish, overruled = _apply_rules(order, policy, trace)
    if overruled:
        trace["overruled"] = overruled
    if wish.get("hold"):
        return _end("held", order, (), trace, f"Rule puts it on hold: {wish['hold']}", hold=str(wish["hold"]), tags=_tags(wish))
    rank = tuple(wish.get("rank") or DEFAULT_RANK)
    max_splits = max(1, int(wish.get("max_splits", MAX_SPLITS)))
    complete = bool(wish.get("ship_complete", False))
    split_kits = bool(wish.get("split_kits", False))
    good: list[WarehouseView] = []
    for warehouse in sorted(warehouses, key=lambda w: w.code):
        reason = _lost_on(order, warehouse, wish)
        trace["candidates"].append(_candidate(order, warehouse, reason))
        if not reason:
            good.append(warehouse)
    trace["rank"] = list(rank)
    ranked = sorted(good, key=lambda w: _score(w, rank, wish))
    best = _choose(order, ranked, max_splits, complete, split_kits, rank, wish)
    if best is None:
        why = "; ".join(f"{c['code']}: {c['lost']}" for c in trace["candidates"] if c.get("lost")) or "no warehouse is connected"
        if ranked and complete:
            why = f"ship-complete order and not everything is in stock ({why})" if why else "not everything is in stock"
        return _end("no_route", order, (), trace, f"No route: {why}."[:400], tags=_tags(wish))
    parts, used = best
    for candidate in trace["candidates"]:
        if candidate["code"] in used:
            candidate["won"] = True
        elif "lost" not in candidate:
            candidate["lost"] = _why_not_best(order, candidate["code"], ranked, used, rank, wish)
    outcome = "routed" if not _short(order, parts) else "partly"
    return _end(outcome, order, parts, trace, _sentence(order, parts, trace, ranked), tags=_tags(wish))


def _tags(wish: dict[str, Any]) -> tuple[str, ...]:
    return tuple(wish.get("tags", ()))


def _apply_rules(order: OrderView, policy: Policy, trace: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    wish: dict[str, Any] = {}
    written: dict[str, str] = {}
    lost: list[str] = []
    for rule in policy.rules:
        if not rule.active:
            continue
        why = failing(rule.when, order)
        trace["rules"].append({"name": rule.name, "matched": not why, **({"why": why} if why else {})})
        if why:
            continue
        for field_name, value in rule.then.items():
            if field_name == "tags":
                wish["tags"] = [*wish.get("tags", []), *value]
                continue
            if field_name in wish and wish[field_name] != value:
                lost.append(f"{field_name} of '{written[field_name]}' gives way to '{rule.name}'")
            wish[field_name] = value
            written[field_name] = rule.name
        if rule.stop:
            break
    return wish, lost


def _fits(line: LineView, stock: dict[str, int]) -> int:
    """Whole units of the line that the stock can give."""
    return max(0, min((stock.get(code, 0) // per_unit for code, per_unit in line.parts), default=0))


def _lost_on(order: OrderView, warehouse: WarehouseView, wish: dict[str, Any]) -> str:
    """The filter the warehouse fails, or empty."""
    if not warehouse.active:
        return "it is inactive"
    if not warehouse.fulfils:
        return f"it may not serve {order.channel}"
    if warehouse.kind in OPERATOR_POOLS and not all(line.mcf_allowed for line in order.lines):
        return "its stock belongs to the marketplace's own fulfilment (multi-channel fulfilment is off)"
    if "only" in wish and warehouse.code not in wish["only"]:
        return f"a rule allows only {', '.join(wish['only'])}"
    if warehouse.code in wish.get("exclude", ()):
        return "a rule excludes it"
    if warehouse.rejected:
        return "it rejected this order before"
    if warehouse.capacity_left is not None and warehouse.capacity_left <= 0:
        return "it is at capacity for the day"
    if warehouse.ship_day is None:
        return "it is closed"
    if not any(_fits(line, warehouse.stock) for line in order.lines):
        missing = ", ".join(line.sku for line in order.lines)
        return f"out of stock: {missing}"[:160]
    return ""


def _candidate(order: OrderView, warehouse: WarehouseView, reason: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "code": warehouse.code,
        "stock": {line.sku: f"{min(_fits(line, warehouse.stock), line.quantity)}/{line.quantity}" for line in order.lines},
    }
    if warehouse.cost is not None:
        found |= {"cost": str(warehouse.cost), "currency": warehouse.currency, "zone": warehouse.zone}
    if warehouse.ship_day:
        found["ships"] = warehouse.ship_day.isoformat()
    if reason:
        found["lost"] = reason
    return found


def _score(warehouse: WarehouseView, rank: Sequence[str], wish: dict[str, Any]) -> tuple[Any, ...]:
    preferred = list(wish.get("prefer", ()))
    place = preferred.index(warehouse.code) if warehouse.code in preferred else len(preferred)
    keys: list[Any] = [place]
    for word in rank:
        if word == "ship_day":
            keys.append(warehouse.ship_day or dt.date.max)
        elif word == "cost":
            keys.append(warehouse.cost if warehouse.cost is not None else Decimal("Infinity"))
        elif word == "distance":
            keys.append(warehouse.distance_km if warehouse.distance_km is not None else 10**9)
        elif word == "priority":
            keys.append(warehouse.priority)
        elif word == "balance":
            keys.append(-sum(warehouse.stock.values()))
    return (*keys, warehouse.priority, warehouse.code)


def _choose(
    order: OrderView, ranked: list[WarehouseView], max_splits: int, complete: bool, split_kits: bool,
    rank: Sequence[str], wish: dict[str, Any],
) -> tuple[tuple[Part, ...], set[str]] | None:  # fmt: skip
    """The best allocation: most units placed, then fewest parcels, then the ranking of the warehouses used."""
    best: tuple[Any, tuple[Part, ...]] | None = None
    wanted = sum(line.quantity for line in order.lines)
    for size in range(1, min(max_splits, len(ranked)) + 1):
        for group in combinations(ranked, size):
            parts = _allocate(order, group, split_kits)
            placed = sum(part.quantity for part in parts)
            if not placed or (complete and placed < wanted):
                continue
            used = {part.warehouse for part in parts}
            key = (wanted - placed, len(used), [_score(w, rank, wish) for w in group if w.code in used])
            if best is None or key < best[0]:
                best = key, parts
        if best is not None and best[0][0] == 0:
            break  # more parcels cannot be better once everything is placed
    return None if best is None else (best[1], {part.warehouse for part in best[1]})


def _allocate(order: OrderView, group: Sequence[WarehouseView], split_kits: bool) -> tuple[Part, ...]:
    """Fill lines from the group in rank order; whole lines from one warehouse before splitting a line's units."""
    left = {warehouse.code: dict(warehouse.stock) for warehouse in group}
    parts: list[Part] = []
    for line in order.lines:
        todo = line.quantity
        whole = next((w for w in group if _fits(line, left[w.code]) >= todo), None)
        sources = [whole] if whole else list(group)
        for warehouse in sources:
            stock = left[warehouse.code]
            take = min(todo, _fits(line, stock))
            if not take:
                continue
            for code, per_unit in line.parts:
                stock[code] -= take * per_unit
            parts.append(Part(line.line_id, warehouse.code, take))
            todo -= take
            if not todo:
                break
    return tuple(parts)


def _short(order: OrderView, parts: Sequence[Part]) -> dict[int, int]:
    placed: dict[int, int] = {}
    for part in parts:
        placed[part.line_id] = placed.get(part.line_id, 0) + part.quantity
    return {line.line_id: line.quantity - placed.get(line.line_id, 0) for line in order.lines
            if line.quantity > placed.get(line.line_id, 0)}  # fmt: skip


def _why_not_best(
    order: OrderView, code: str, ranked: list[WarehouseView], used: set[str], rank: Sequence[str], wish: dict[str, Any]
) -> str:
    loser = next(w for w in ranked if w.code == code)
    winner = next(w for w in ranked if w.code in used)
    missing = [f"{min(_fits(line, loser.stock), line.quantity)} of {line.quantity} {line.sku}" for line in order.lines
               if _fits(line, loser.stock) < line.quantity]  # fmt: skip
    if missing and len(used) == 1:
        return f"only {', '.join(missing)}"[:160]
    mine, theirs = _score(loser, rank, wish), _score(winner, rank, wish)
    names = ["preference", *[word for word in rank if word != "fewest_splits"], "priority", "name"]
    for name, left, right in zip(names, mine, theirs, strict=False):
        if left != right:
            shown = {"ship_day": "ships", "cost": "costs"}.get(name, name)
            if name in ("ship_day", "cost", "distance"):
                return f"{shown} {left} against {right}"
            return f"{winner.code} has the better {name}"
    return f"{winner.code} comes first"


def _sentence(order: OrderView, parts: Sequence[Part], trace: dict[str, Any], ranked: list[WarehouseView]) -> str:
    used: dict[str, int] = {}
    for part in parts:
        used[part.warehouse] = used.get(part.warehouse, 0) + part.quantity
    by_code = {w.code: w for w in ranked}
    won = []
    for code, units in used.items():
        view = by_code[code]
        detail = f"{view.cost} {view.currency}" if view.cost is not None else "no quote"
        zone = f", zone {view.zone}" if view.zone else ""
        won.append(f"{code} won: {units} unit{'s' if units != 1 else ''}, {detail}{zone}")
    lost = [f"{c['code']} lost: {c['lost']}" for c in trace["candidates"] if c.get("lost") and not c.get("won")]
    return "; ".join([*won, *lost])[:400]


def _end(
    outcome: str, order: OrderView, parts: tuple[Part, ...], trace: dict[str, Any], summary: str,
    hold: str = "", tags: tuple[str, ...] = (),
) -> Plan:  # fmt: skip
    trace["parts"] = [[part.line_id, part.warehouse, part.quantity] for part in parts]
    return Plan(outcome, parts, _short(order, parts), summary, trace, tags, hold)


def inputs(order: OrderView, warehouses: Sequence[WarehouseView]) -> dict[str, Any]:
    """What the decision saw, as JSON, so that it can be replayed later with the stored policy version."""

    def plain(value: Any) -> Any:
        if isinstance(value, Decimal):
            return str(value)
        if isinstance(value, dt.datetime | dt.date):
            return value.isoformat()
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return value

    return {"order": plain(asdict(order)), "warehouses": [plain(asdict(w)) for w in warehouses]}


def replay(stored: dict[str, Any], rules: list[dict[str, Any]], version: int) -> Plan:
    """Run a stored decision's inputs again, with its own or other rules (2.2, 2.3)."""
    raw = dict(stored["order"])
    raw["value"] = Decimal(raw["value"])
    raw["tags"] = tuple(raw["tags"])
    raw["ship_by"] = dt.datetime.fromisoformat(raw["ship_by"]) if raw["ship_by"] else None
    raw["lines"] = tuple(
        LineView(line["line_id"], line["sku"], line["quantity"], tuple((c, n) for c, n in line["parts"]), line["mcf_allowed"])
        for line in raw["lines"]
    )
    places = []
    for item in stored["warehouses"]:
        values = dict(item)
        values["cost"] = Decimal(values["cost"]) if values["cost"] is not None else None
        values["ship_day"] = dt.date.fromisoformat(values["ship_day"]) if values["ship_day"] else None
        places.append(WarehouseView(**values))
    return plan(OrderView(**raw), places, policy_from(version, rules))
