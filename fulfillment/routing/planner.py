"""Which warehouse ships what: filter, rank, allocate, split, with every loser's reason.

Pure and deterministic: the same order, stock and policy version give the same plan, and a stored decision can
be replayed from its own inputs.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from decimal import Decimal
from itertools import combinations
from typing import Any

from fulfillment.routing import scoring
from fulfillment.routing.conditions import failing
from fulfillment.routing.filters import Loss, for_line, for_order, full_stock_at
from fulfillment.routing.model import LineView, OrderView, Part, Plan, Policy, WarehouseView, policy_from
from fulfillment.routing.splitting import allocate, fits

#: groups up to this size are compared one by one; larger ones are only built when smaller ones do not suffice
EXHAUSTIVE_SIZE = 3
#: and only among so many warehouses, those that place most
EXHAUSTIVE_WAREHOUSES = 10


def plan(order: OrderView, warehouses: Sequence[WarehouseView], policy: Policy) -> Plan:
    """Decide where each line is shipped from.

    Never more than a warehouse has, nothing lost: placed + short = ordered per line. `outcome` is routed,
    partly, no_route (with the reason of every candidate and alternative), held (by a rule) or blocked (the
    order itself may not be sent).
    """
    trace: dict[str, Any] = {"policy": policy.version, "rules": [], "candidates": []}
    if order.blocked:
        return _end("blocked", order, (), trace, order.blocked)
    if not order.lines:
        return _end("routed", order, (), trace, "Nothing is left to be placed.")
    places = sorted(warehouses, key=lambda w: w.code)
    order = replace(order, stock_at=full_stock_at(order, places))
    wish = _apply_rules(order, policy, trace)
    tags = tuple(dict.fromkeys(wish.get("tags", ())))
    if wish.get("hold"):
        hold = str(wish["hold"])
        return _end("held", order, (), trace, f"Rule puts it on hold: {hold}", hold=hold, tags=tags)
    options = list(wish.get("try") or [{}])
    attempts = [_attempt(order, places, wish | options[0])]
    while not attempts[-1].complete and len(attempts) < len(options):
        attempts.append(_attempt(order, places, wish | options[len(attempts)]))
    best = max(
        attempts, key=lambda attempt: (attempt.complete, bool(attempt.parts))
    )  # the first among equals
    trace["candidates"] = best.candidates
    trace["rank"] = list(best.rank)
    if len(options) > 1:
        trace["tried"] = [attempt.summary for attempt in attempts]
        trace["chosen"] = attempts.index(best) + 1
    if not best.parts:
        summary = " Else: ".join(dict.fromkeys(attempt.summary for attempt in attempts))
        return _end("no_route", order, (), trace, f"No route: {summary}", tags=tags)
    outcome = "routed" if best.complete else "partly"
    return _end(outcome, order, best.parts, trace, best.summary, tags=tags)


def _apply_rules(order: OrderView, policy: Policy, trace: dict[str, Any]) -> dict[str, Any]:
    """The wish of all matching rules together; tags given by one rule are seen by the next."""
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
        for word, value in rule.then.items():
            if word == "tags":
                wish["tags"] = [*wish.get("tags", []), *value]
                order = replace(order, tags=(*order.tags, *value))
            elif word == "exclude":
                wish["exclude"] = [*wish.get("exclude", []), *value]
            else:
                if word in wish and wish[word] != value:
                    lost.append(f"{word} of '{written[word]}' gives way to '{rule.name}'")
                wish[word] = value
                written[word] = rule.name
        if rule.stop:
            break
    if lost:
        trace["overruled"] = lost
    return wish


@dataclass(slots=True)
class _Attempt:
    """What one set of limits gives."""

    parts: tuple[Part, ...]
    complete: bool
    summary: str
    candidates: list[dict[str, Any]]
    rank: tuple[str, ...]


@dataclass(slots=True)
class _Option:
    """A group of warehouses that each send something, and how good it is."""

    missing: int
    score: scoring.Score
    codes: tuple[str, ...]
    parts: tuple[Part, ...]

    @property
    def key(self) -> tuple[int, scoring.Score, tuple[str, ...]]:
        return self.missing, self.score, self.codes


def _attempt(order: OrderView, places: Sequence[WarehouseView], wish: Mapping[str, Any]) -> _Attempt:
    losses: dict[str, Loss] = {}
    for warehouse in places:
        loss = for_order(warehouse, order, wish) or _useless(order, warehouse, bool(wish.get("split_kits")))
        if loss:
            losses[warehouse.code] = loss
    good = [w for w in places if w.code not in losses]
    scorer = scoring.Scorer(order, good, wish)
    best_of: dict[str, _Option] = {}  # the best group in which each warehouse sends something
    refused: _Option | None = None
    best: _Option | None = None
    for option in _options(order, good, scorer, wish):
        if not _allowed(option, order, wish):
            refused = option if refused is None or option.key < refused.key else refused
            continue
        best = option if best is None or option.key < best.key else best
        for code in option.codes:
            if code not in best_of or option.key < best_of[code].key:
                best_of[code] = option
    for warehouse in good:
        if best is not None and warehouse.code not in best.codes:
            losses[warehouse.code] = _why_not_best(
                order, warehouse, best, best_of.get(warehouse.code), scorer
            )
        elif best is None:
            losses[warehouse.code] = Loss("stock", _only(order, warehouse))
    candidates = [_candidate(order, w, losses.get(w.code), best) for w in places]
    if best is None:
        return _Attempt((), False, _why_nothing(order, wish, refused, candidates), candidates, scorer.rank)
    summary = _sentence(best, candidates, scorer)
    return _Attempt(best.parts, best.missing == 0, summary, candidates, scorer.rank)


def _useless(order: OrderView, warehouse: WarehouseView, split_kits: bool) -> Loss | None:
    """Out because it can send nothing: by a filter on every line, or by its stock."""
    filters = [for_line(warehouse, line) for line in order.lines]
    if all(filters):
        return filters[0]
    for line, loss in zip(order.lines, filters, strict=True):
        if loss is None and (
            fits(line, warehouse.stock)
            or (split_kits and any(warehouse.stock.get(code, 0) > 0 for code, _ in line.parts))
        ):
            return None
    missing = dict.fromkeys(line.sku for line, loss in zip(order.lines, filters, strict=True) if loss is None)
    return Loss("stock", f"out of stock: {', '.join(missing)}"[:160])


def _options(
    order: OrderView, good: Sequence[WarehouseView], scorer: scoring.Scorer, wish: Mapping[str, Any]
) -> list[_Option]:
    """Groups worth comparing, smallest first; each warehouse of a group sends something."""
    split_kits = bool(wish.get("split_kits"))
    wanted = sum(line.quantity for line in order.lines)
    most = min(len(good), int(wish.get("max_splits") or len(good)))

    def made(group: Sequence[WarehouseView]) -> _Option | None:
        ordered = sorted(group, key=lambda w: (scorer.score((w.code,)), w.code))
        parts, placed = allocate(order, ordered, split_kits=split_kits)
        used = {part.warehouse for part in parts}
        if len(used) < len(group):
            return None  # the smaller group is compared on its own
        codes = tuple(sorted(used))
        return _Option(wanted - placed, scorer.score(codes), codes, tuple(parts))

    found: list[_Option] = []
    pool = list(good)
    for size in range(1, min(most, EXHAUSTIVE_SIZE) + 1):
        found += [option for group in combinations(pool, size) if (option := made(group)) is not None]
        if scorer.splits_first and any(option.missing == 0 for option in found):
            return found
        if size == 1 and len(pool) > EXHAUSTIVE_WAREHOUSES:
            coverage = {option.codes[0]: option.key for option in found}
            pool = sorted((w for w in pool if w.code in coverage), key=lambda w: coverage[w.code])
            pool = sorted(pool[:EXHAUSTIVE_WAREHOUSES], key=lambda w: w.code)
    if most > EXHAUSTIVE_SIZE and not any(option.missing == 0 for option in found):
        found += _grown(good, most, made)
    return found


def _grown(good: Sequence[WarehouseView], most: int, made: Any) -> list[_Option]:
    """Larger groups, built by adding the warehouse that places most, until nothing is gained."""
    found: list[_Option] = []
    group: list[WarehouseView] = []
    while len(group) < most:
        steps = [(made([*group, w]), w) for w in good if w not in group]
        useful = [(option, w) for option, w in steps if option is not None]
        if not useful:
            break
        option, warehouse = min(useful, key=lambda pair: pair[0].key)
        if found and option.missing >= found[-1].missing:
            break
        found.append(option)
        group.append(warehouse)
    return found


def _allowed(option: _Option, order: OrderView, wish: Mapping[str, Any]) -> bool:
    """Whether the rules accept a group: complete if they ask so, and room left for the shipment of the rest."""
    rest = option.missing + order.short_units
    if wish.get("ship_complete") and rest:
        return False
    limit = wish.get("max_splits")
    return limit is None or order.shipments_made + len(option.codes) + (1 if rest else 0) <= limit


def _why_nothing(
    order: OrderView,
    wish: Mapping[str, Any],
    refused: _Option | None,
    candidates: Sequence[Mapping[str, Any]],
) -> str:
    told = "; ".join(f"{c['code']}: {c['lost']}" for c in candidates) or "no warehouse is connected"
    if refused is not None:
        rest = refused.missing + order.short_units
        if wish.get("ship_complete") and rest:
            units = "unit is" if rest == 1 else "units are"
            return f"ship-complete order and {rest} {units} not in stock ({told})"
        made = f", {order.shipments_made} made already" if order.shipments_made else ""
        return f"it takes more than the {wish['max_splits']} shipment(s) a rule allows{made} ({told})"
    return told


def _only(order: OrderView, warehouse: WarehouseView) -> str:
    missing = [
        f"{fits(line, warehouse.stock)} of {line.quantity} {line.sku}"
        for line in order.lines
        if fits(line, warehouse.stock) < line.quantity
    ]
    return f"only {', '.join(missing)}"[:160] if missing else "has everything"


def _why_not_best(
    order: OrderView, warehouse: WarehouseView, best: _Option, own: _Option | None, scorer: scoring.Scorer
) -> Loss:
    if own is None or own.missing > best.missing:
        barred = next((loss for line in order.lines if (loss := for_line(warehouse, line))), None)
        text = _only(order, warehouse)
        return barred if barred is not None and text == "has everything" else Loss("stock", text)
    return Loss(*scorer.why(own.codes, best.codes))


def _candidate(
    order: OrderView, warehouse: WarehouseView, loss: Loss | None, best: _Option | None
) -> dict[str, Any]:
    """One line of the record: stock seen per line, figures, and won or where it lost."""
    found: dict[str, Any] = {
        "code": warehouse.code,
        "stock": {
            line.sku: f"{min(fits(line, warehouse.stock), line.quantity)}/{line.quantity}"
            for line in order.lines
        },
    }
    if loss is None or loss.on in scoring.CRITERIA:  # figures matter only where they were compared
        if warehouse.cost is not None:
            found["cost"] = f"{warehouse.cost} {warehouse.currency}"
        if warehouse.zone:
            found["zone"] = warehouse.zone
        if warehouse.cost_note:
            found["note"] = warehouse.cost_note
        if warehouse.ship_day:
            found["ships"] = warehouse.ship_day.isoformat()
    barred = {line.sku: bar.why for line in order.lines if (bar := for_line(warehouse, line))}
    if barred and len(barred) < len(order.lines):
        found["barred"] = barred
    if best is not None and warehouse.code in best.codes:
        found["won"] = True
    elif loss is not None:
        found |= {"lost": loss.why, "on": loss.on}
    return found


def _sentence(best: _Option, candidates: Sequence[Mapping[str, Any]], scorer: scoring.Scorer) -> str:
    """'EAST won: 2 units, 4.12 USD, zone 4; RENO lost: costs 6.80 against 4.12'."""
    units: dict[str, int] = {}
    for part in best.parts:
        units[part.warehouse] = units.get(part.warehouse, 0) + part.quantity
    won = []
    for code, count in sorted(units.items(), key=lambda pair: (-pair[1], pair[0])):
        view = scorer.views[code]
        cost = f"{view.cost} {view.currency}" if view.cost is not None else "no quote"
        zone = f", zone {view.zone}" if view.zone else ""
        note = f" ({view.cost_note})" if view.cost_note else ""
        won.append(f"{code} won: {count} unit{'s' if count != 1 else ''}, {cost}{note}{zone}")
    if best.missing:
        won.append(f"{best.missing} not in stock anywhere allowed")
    lost = [f"{c['code']} lost: {c['lost']}" for c in candidates if "lost" in c]
    return "; ".join([*won, *lost])


def _short(order: OrderView, parts: Sequence[Part]) -> dict[int, int]:
    """Units per line that no warehouse sends; a split kit counts when all its components are placed."""
    placed = {line.line_id: 0 for line in order.lines}
    pieces: dict[tuple[int, str], int] = {}
    for part in parts:
        if part.sku:
            pieces[part.line_id, part.sku] = pieces.get((part.line_id, part.sku), 0) + part.quantity
        else:
            placed[part.line_id] += part.quantity
    for line in order.lines:
        if any((line.line_id, sku) in pieces for sku, _ in line.parts):
            placed[line.line_id] += min(pieces.get((line.line_id, sku), 0) // n for sku, n in line.parts)
    return {line.line_id: line.quantity - placed[line.line_id] for line in order.lines
            if line.quantity > placed[line.line_id]}  # fmt: skip


def _end(
    outcome: str, order: OrderView, parts: Sequence[Part], trace: dict[str, Any], summary: str,
    hold: str = "", tags: tuple[str, ...] = (),
) -> Plan:  # fmt: skip
    trace["parts"] = [
        [part.line_id, part.warehouse, part.quantity, *([part.sku] if part.sku else [])] for part in parts
    ]
    return Plan(outcome, tuple(parts), _short(order, parts), summary[:400], trace, tags, hold)


def inputs(order: OrderView, warehouses: Sequence[WarehouseView]) -> dict[str, Any]:
    """What the decision saw, as compact JSON (defaults left out), to be replayed with the stored policy."""
    codes = {code for line in order.lines for code, _ in line.parts}
    seen = [
        replace(w, stock={code: units for code, units in w.stock.items() if code in codes})
        for w in warehouses
    ]
    return {"order": _plain(order), "warehouses": [_plain(w) for w in seen]}


def _plain(value: Any) -> Any:
    if isinstance(value, OrderView | WarehouseView | LineView):
        return {
            f.name: _plain(getattr(value, f.name))
            for f in fields(value)
            if f.default is MISSING or getattr(value, f.name) != f.default
        }
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def from_inputs(stored: Mapping[str, Any]) -> tuple[OrderView, list[WarehouseView]]:
    """The order and warehouses of a stored decision, exactly as they were seen."""

    def tuples(value: Any) -> Any:
        return tuple(tuples(item) for item in value) if isinstance(value, list) else value

    lines = tuple(
        LineView(**{key: tuples(value) for key, value in line.items()}) for line in stored["order"]["lines"]
    )
    order = {key: tuples(value) for key, value in stored["order"].items()} | {"lines": lines}
    order["value"] = Decimal(order["value"])
    if order.get("ship_by"):
        order["ship_by"] = dt.datetime.fromisoformat(order["ship_by"])
    places = []
    for item in stored["warehouses"]:
        values = dict(item)
        if values.get("cost") is not None:
            values["cost"] = Decimal(values["cost"])
        if values.get("ship_day"):
            values["ship_day"] = dt.date.fromisoformat(values["ship_day"])
        places.append(WarehouseView(**values))
    return OrderView(**order), places


def replay(stored: Mapping[str, Any], rules: Sequence[Mapping[str, Any]], version: int) -> Plan:
    """Run a stored decision's inputs again, with its own or other rules."""
    order, places = from_inputs(stored)
    return plan(order, places, policy_from(version, rules))
