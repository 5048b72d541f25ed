"""Reads: codes to SKUs, levels, kits. What stock was at any moment: `inventory.asof`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

from django.db import connection
from django.db.models import Q, QuerySet
from django.db.models.functions import Upper

from inventory import kits, lots
from inventory.models import RULED, KitComponent, Sku, SkuAlias, StockDifference, StockLevel
from oms.core.access import scope_of
from oms.core.db import on_postgres, pg_array
from oms.core.errors import NotFound

CHUNK = 1000
Pair = tuple[int, int]  # (SKU id, warehouse id)


@dataclass(frozen=True, slots=True)
class LevelView:
    """One level as people read it, in eaches; `average_cost` per unit in the SKU's currency."""

    sku_id: int
    warehouse_id: int
    on_hand: int = 0
    reserved: int = 0
    unavailable: int = 0
    in_transit: int = 0
    safety: int = 0
    average_cost: Decimal = Decimal(0)
    dates: lots.Dated = lots.NOTHING

    @property
    def expired(self) -> int:
        """Units of expired or blocked lots that the buckets still call available."""
        return self.too_old_for(0)

    @property
    def available(self) -> int:
        return self.on_hand - self.reserved - self.unavailable - self.expired

    def too_old_for(self, min_days: int) -> int:
        """Available units that have not `min_days` of life left, expired and blocked ones included."""
        if not self.dates.batches:
            return 0
        return self.dates.held_back(min_days, fit=self.on_hand - self.unavailable, reserved=self.reserved)


@dataclass(frozen=True, slots=True)
class Code:
    """A SKU as a file needs it. `unit_cost` is the standard cost in the SKU's currency."""

    id: int
    code: str
    kind: str = Sku.Kind.STOCK
    tracked: bool = False
    unit_cost: Decimal = Decimal(0)
    valuation: str = ""
    serial_tracked: bool = False


def find_codes(codes: Collection[str]) -> dict[str, Code]:
    """`resolve_codes` without the objects, for files of any length: keys are the codes as given. Two statements."""
    folds = {code: _folds(code.strip()) for code in codes if code and code.strip()}
    found: dict[str, Code] = {}
    merged: dict[str, int] = {}

    def take(rows: Iterable[tuple[Any, ...]]) -> None:
        for fold, pk, code, kind, by_lot, by_serial, cost, method, target in rows:
            found[fold] = Code(pk, code, kind, by_lot or by_serial, cost, method, bool(by_serial))
            if target:
                merged[fold] = target

    take(_code_rows({fold for both in folds.values() for fold in both}, "code", ""))
    rest = {fold for both in folds.values() if not any(fold in found for fold in both) for fold in both}
    take(_code_rows(rest, "value", "sku__"))
    if merged:
        targets = {
            row[0]: Code(row[0], row[1], row[2], row[3] or row[4], row[5], row[6], row[4])
            for row in Sku.objects.filter(pk__in=set(merged.values())).values_list(*_CODE)
        }
        found.update({fold: targets[pk] for fold, pk in merged.items()})
    answer = {}
    for code, both in folds.items():
        for fold in both:
            if fold in found:
                answer[code] = found[fold]
                break
    return answer


def ruled(ids: Collection[int]) -> list[tuple[int, bool, bool, str, int | None]]:
    """Those of the SKUs that are merged, tracked or valued in a way of their own: id, by lot, by serial number,
    valuation, what it was merged into. Most have none of it, and an index holds the few that have."""
    rows = Sku.objects.filter(RULED).order_by()
    if on_postgres():  # one array instead of thousands of placeholders
        rows = rows.extra(where=["inventory_sku.id = ANY(%s::bigint[])"], params=[pg_array(list(ids))])
    else:
        rows = rows.filter(pk__in=ids)
    return list(rows.values_list("id", "lot_tracked", "serial_tracked", "valuation", "merged_into_id"))


_CODE = ("id", "code", "kind", "lot_tracked", "serial_tracked", "unit_cost", "valuation", "merged_into_id")


def _code_rows(folds: Collection[str], column: str, path: str) -> Iterable[tuple[Any, ...]]:
    """The fold of `column` and the SKU's columns, where the fold is one of these."""
    if not folds:
        return ()
    if on_postgres():  # one array instead of thousands of placeholders
        alias = "JOIN inventory_skualias a ON a.sku_id = s.id" if path else ""
        fold = f"UPPER({'a' if path else 's'}.{column})"
        names = ", ".join(f"s.{name}" for name in _CODE)
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT {fold}, {names} FROM inventory_sku s {alias} WHERE {fold} = ANY((%s)::text[])",  # noqa: S608
                [pg_array(list(folds))],
            )
            return cursor.fetchall()
    table: QuerySet[Any] = SkuAlias.objects.all() if path else Sku.objects.all()
    found: list[tuple[Any, ...]] = []
    wanted = sorted(folds)
    for start in range(0, len(wanted), CHUNK):
        part = table.annotate(fold=Upper(column)).filter(fold__in=wanted[start : start + CHUNK]).order_by()
        found += part.values_list("fold", *(f"{path}{name}" for name in _CODE))
    return found


def closest_codes(code: str, among: int = 200) -> list[str]:
    """Codes of the catalogue that a mistyped one may mean, the nearest first; at most three."""
    near = code.strip()[:3]
    if not near:
        return []
    known = Sku.objects.filter(code__istartswith=near, is_active=True, merged_into__isnull=True)
    names = {name.upper(): name for name in known.order_by("code").values_list("code", flat=True)[:among]}
    return [names[match] for match in get_close_matches(code.strip().upper(), list(names), 3, 0.75)]


def resolve_codes(codes: Iterable[str]) -> dict[str, Sku]:
    """SKUs by code or alias, without regard to case; keys are the codes as given, unknown ones are left out.

    A SKU's own code wins over an alias. Merged SKUs answer with the one they were merged into.
    """
    asked = {code: _folds(code.strip()) + gtin_forms(code.strip()) for code in codes if code and code.strip()}
    found = _by_fold({fold for folds in asked.values() for fold in folds})
    answer = {}
    for code, folds in asked.items():
        sku = next((found[fold] for fold in folds if fold in found), None)
        if sku is not None:
            answer[code] = sku
    return answer


def found_by(text: str, *, anywhere: int = 3) -> Q:
    """SKUs by a part of their code or titles: from so many letters on `anywhere`, fewer at the beginning of one.

    No regard to case (on SQLite: to that of ASCII letters).
    """
    words = text.strip()
    wanted = words.upper() if on_postgres() else words
    return Q(search__contains=wanted if len(words) >= anywhere else f"\n{wanted}")


def gtin_forms(code: str) -> tuple[str, ...]:
    """The other lengths in which the same GTIN is printed: a UPC of 12 digits is an EAN of 13 and a GTIN of 14 with
    leading zeros. Empty for anything else, a wrong check digit included.
    """
    if not (code.isascii() and code.isdigit() and 8 <= len(code) <= 14):
        return ()
    padded = code.zfill(14)
    total = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(padded))
    if total % 10:
        return ()
    bare = padded.lstrip("0")
    return tuple(
        bare.zfill(size) for size in (8, 12, 13, 14) if len(bare) <= size and bare.zfill(size) != code
    )


def _folds(code: str) -> tuple[str, ...]:
    """Upper case as the databases make it: PostgreSQL knows all letters, SQLite only those of ASCII."""
    if code.isascii():
        return (code.upper(),)
    ascii_only = "".join(char.upper() if char.isascii() else char for char in code)
    return tuple(dict.fromkeys((code.upper(), ascii_only)))


def _by_fold(folds: Collection[str]) -> dict[str, Sku]:
    found: dict[str, Sku] = {}
    wanted = sorted(folds)
    for start in range(0, len(wanted), CHUNK):
        part = wanted[start : start + CHUNK]
        for sku in (
            Sku.objects.annotate(fold=Upper("code")).filter(fold__in=part).select_related("merged_into")
        ):
            found[sku.fold] = sku.merged_into or sku
        rest = [fold for fold in part if fold not in found]
        if rest:
            aliases = SkuAlias.objects.annotate(fold=Upper("value")).filter(fold__in=rest)
            for alias in aliases.select_related("sku__merged_into"):
                found[alias.fold] = alias.sku.merged_into or alias.sku
    return found


def levels(sku_ids: Collection[int], warehouse_ids: Collection[int] | None = None) -> dict[Pair, LevelView]:
    """Levels by (SKU id, warehouse id); pairs without a row are left out. One query, three where lots are kept."""
    rows = StockLevel.objects.filter(sku_id__in=sku_ids)
    if warehouse_ids is not None:
        rows = rows.filter(warehouse_id__in=warehouse_ids)
    names = (
        "sku_id",
        "warehouse_id",
        "on_hand",
        "reserved",
        "unavailable",
        "in_transit",
        "safety",
        "average_cost",
    )
    found = list(rows.values_list(*names, "sku__lot_tracked"))
    dated = {row[0] for row in found if row[-1]}
    dates = lots.dated(dated, warehouse_ids) if dated else {}
    plain = {(row[0], row[1]): LevelView(*row[:-1]) for row in found}
    return plain | {pair: replace(plain[pair], dates=held) for pair, held in dates.items() if pair in plain}


def daily_demand(sku_ids: Collection[int], first: dt.date, until: dt.date) -> dict[int, dict[dt.date, int]]:
    """Units demanded per SKU and day from `first` to before `until`, over all channels.

    The days of a SKU come as one text: a year of a hundred thousand SKUs as single rows costs minutes.
    """
    day, joined = ("CAST(julianday(day) - julianday(%s) AS int)", "group_concat(word)")
    if on_postgres():
        day, joined = ("day - CAST(%s AS date)", "string_agg(word, ',')")
    days = [first + dt.timedelta(days=step) for step in range((until - first).days)]
    found: dict[int, dict[dt.date, int]] = {}
    wanted = sorted(set(sku_ids))
    with connection.cursor() as cursor:
        for start in range(0, len(wanted), CHUNK):
            part = wanted[start : start + CHUNK]
            cursor.execute(
                f"""
                SELECT sku_id, {joined} FROM (
                    SELECT sku_id, {day} || ':' || SUM(units) AS word FROM inventory_demandday
                    WHERE sku_id IN ({", ".join(["%s"] * len(part))}) AND day >= %s AND day < %s
                    GROUP BY sku_id, day
                ) AS days GROUP BY sku_id
                """,  # noqa: S608 - names of ours and placeholders
                [first.isoformat(), *part, first.isoformat(), until.isoformat()],
            )
            for sku, words in cursor.fetchall():
                pairs = (word.split(":") for word in words.split(","))
                found[sku] = {days[int(at)]: int(units) for at, units in pairs}
    return found


def kit_parts(sku_ids: Iterable[int]) -> dict[int, kits.Parts]:
    """Counted components of those of the SKUs that are virtual kits; the others do not appear."""
    return kits.flatten(
        Sku.objects.filter(pk__in=list(sku_ids), kind=Sku.Kind.KIT).values_list("pk", flat=True)
    )


def kits_containing(sku_ids: Iterable[int]) -> dict[int, set[int]]:
    """Ids of virtual kits that contain each SKU, directly or through another kit; every SKU has an entry."""
    wanted = set(sku_ids)
    answer: dict[int, set[int]] = {sku_id: set() for sku_id in wanted}
    todo: dict[int, set[int]] = {sku_id: {sku_id} for sku_id in wanted}  # content → SKUs it leads back to
    while todo:
        rows = KitComponent.objects.filter(component_id__in=list(todo), kit__kind=Sku.Kind.KIT)
        following: dict[int, set[int]] = {}
        for kit, component in rows.values_list("kit_id", "component_id"):
            fresh = {root for root in todo[component] if kit not in answer[root]}
            for root in fresh:
                answer[root].add(kit)
            if fresh:
                following.setdefault(kit, set()).update(fresh)
        todo = following
    return answer


def visible_differences(principal: Any, permission: str = "stock.view") -> QuerySet[StockDifference]:
    """Differences in the warehouses a user or token may see."""
    scope = scope_of(principal, permission)
    return StockDifference.objects.filter(scope.q(warehouse="warehouse__code")).select_related(
        "sku__product", "warehouse", "owner", "approval"
    )


def the_difference(principal: Any, pk: int, permission: str = "stock.view") -> StockDifference:
    """One visible difference. Raises `NotFound`."""
    row = visible_differences(principal, permission).filter(pk=pk).first()
    if row is None:
        raise NotFound("Difference: there is no such difference.")
    return row
