"""How stock rows are locked and changed: one place, one order, on PostgreSQL and SQLite alike.

The order is always reservations by id, then the making of levels, then stock levels by (SKU id, warehouse id).
Balances change only by the guarded UPDATE below; the CHECK constraints of the table are the second line of defence.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from django.db import IntegrityError, OperationalError, connection, transaction

from inventory.models import Reservation, StockLevel
from oms.core.db import LostRace, lost_conflict, on_postgres, pg_array
from oms.core.inserts import insert_columns
from oms.core.metrics import CONFLICTS

T = TypeVar("T")
P = ParamSpec("P")
Pair = tuple[int, int]  # (SKU id, warehouse id): the sort key of every lock

BUCKETS = ("on_hand", "reserved", "damaged", "quarantine", "inspection", "in_transit")
RETRIES = 5
LOCK_TIMEOUT_MS = 3_000
STATEMENT_TIMEOUT_MS = 15_000
#: levels changed by one statement
CHUNK = 500
#: from so many levels on PostgreSQL gets arrays, and as many levels in one statement as there are
ARRAYS_FROM = 100


#: what must hold after a change of a level, or the level is left as it was
GUARD = (
    " AND ".join(f"{bucket} + {bucket}_by >= 0" for bucket in BUCKETS[1:])
    + " AND on_hand + on_hand_by >= reserved + reserved_by + damaged + damaged_by"
    " + quarantine + quarantine_by + inspection + inspection_by"
)


@dataclass(frozen=True, slots=True)
class Balances:
    """The buckets of one level at one moment, in eaches; `average_cost` per unit in the SKU's currency."""

    on_hand: int
    reserved: int
    damaged: int
    quarantine: int
    inspection: int
    in_transit: int
    average_cost: Decimal

    @property
    def available(self) -> int:
        return self.on_hand - self.reserved - self.damaged - self.quarantine - self.inspection


def retrying(work: Callable[[], T]) -> T:
    """Run `work` (a whole transaction) and run it again after a deadlock, lock timeout or lost race.

    Only for the outermost service call: inside an open transaction it runs `work` once, because a part of
    a transaction cannot be repeated. At most five repeats, with growing random pauses.
    """
    if connection.in_atomic_block:
        return work()
    for attempt in range(RETRIES):
        try:
            return work()
        except (OperationalError, IntegrityError) as error:
            if not (lost_conflict(error) or _posted_by_rival(error)):
                raise
            CONFLICTS.inc()
            time.sleep(random.uniform(0.5, 1) * 0.01 * 2**attempt)
    return work()


def _posted_by_rival(error: Exception) -> bool:
    """The rival wrote the same movement key first: on the next run the key is found and skipped."""
    text = str(error)
    return isinstance(error, IntegrityError) and "inventory_stockmovement" in text and "key" in text


#: the select list that sets them for the rest of the transaction (PostgreSQL)
LIMITS = (
    f"set_config('lock_timeout', '{LOCK_TIMEOUT_MS}', true), "
    f"set_config('statement_timeout', '{STATEMENT_TIMEOUT_MS}', true)"
)


@contextmanager
def stock_transaction(*, own_limits: bool = False) -> Iterator[None]:
    """`transaction.atomic()` that never waits long for a stock row (PostgreSQL: lock 3 s, statement 15 s).

    With `own_limits` the caller puts `LIMITS` into its first statement.
    """
    outermost = not connection.in_atomic_block
    with transaction.atomic():
        if outermost and not own_limits and on_postgres():
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT {LIMITS}")
        yield


def stock_service(work: Callable[P, T]) -> Callable[P, T]:
    """A service that is one stock transaction; called on its own it is repeated after a lost race."""

    @wraps(work)
    def whole(*args: P.args, **kwargs: P.kwargs) -> T:
        def once() -> T:
            with stock_transaction():
                return work(*args, **kwargs)

        return retrying(once)

    return whole


def require_transaction() -> None:
    if not connection.in_atomic_block:
        raise RuntimeError("Stock changes only inside transaction.atomic(): open one in the calling service.")


def lock_levels(pairs: Iterable[Pair]) -> dict[Pair, Balances]:
    """Lock the existing levels among `pairs`, in order, and return their balances.

    Needed only where values are read before they are written (moving average, exact planning). On SQLite the
    transaction itself is the lock (IMMEDIATE). Raises RuntimeError outside a transaction.
    """
    require_transaction()
    wanted = set(pairs)
    if not wanted:
        return {}
    if on_postgres() and len(wanted) >= ARRAYS_FROM:
        return _many(sorted(wanted), "FOR NO KEY UPDATE OF l")
    rows = (
        StockLevel.objects.filter(
            sku_id__in={sku for sku, _ in wanted}, warehouse_id__in={wh for _, wh in wanted}
        )
        .order_by("sku_id", "warehouse_id")
        .select_for_update(of=("self",), no_key=True)
    )
    return {
        (row.sku_id, row.warehouse_id): Balances(
            row.on_hand,
            row.reserved,
            row.damaged,
            row.quarantine,
            row.inspection,
            row.in_transit,
            row.average_cost,
        )
        for row in rows  # evaluated here: an unevaluated lock is no lock
        if (row.sku_id, row.warehouse_id) in wanted
    }


def read_levels(pairs: Iterable[Pair]) -> dict[Pair, Balances]:
    """The balances of the existing levels among `pairs` as they stand, without a lock."""
    wanted = set(pairs)
    if on_postgres() and len(wanted) >= ARRAYS_FROM:
        return _many(sorted(wanted), "")
    rows = StockLevel.objects.filter(
        sku_id__in={sku for sku, _ in wanted}, warehouse_id__in={warehouse for _, warehouse in wanted}
    ).values_list("sku_id", "warehouse_id", *BUCKETS, "average_cost")
    return {(row[0], row[1]): Balances(*row[2:]) for row in rows if (row[0], row[1]) in wanted}


def _many(pairs: list[Pair], lock: str) -> dict[Pair, Balances]:
    """Hundreds of levels: two arrays cost less than a placeholder for each.

    The inner SELECT hides their length from the planner, which for two thousand rows reads the whole table instead.
    """
    names = ", ".join(f"l.{bucket}" for bucket in BUCKETS)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT l.sku_id, l.warehouse_id, {names}, l.average_cost
            FROM inventory_stocklevel l
            JOIN unnest((SELECT %s::bigint[]), (SELECT %s::bigint[])) AS want (sku, warehouse)
              ON l.sku_id = want.sku AND l.warehouse_id = want.warehouse
            ORDER BY l.sku_id, l.warehouse_id {lock}
            """,  # noqa: S608 - names of ours
            [pg_array([sku for sku, _ in pairs]), pg_array([warehouse for _, warehouse in pairs])],
        )
        return {(row[0], row[1]): Balances(*row[2:]) for row in cursor.fetchall()}


def lock_reservations(ids: Iterable[int]) -> dict[int, Reservation]:
    """Lock reservations by ascending id; always before any level is touched."""
    require_transaction()
    rows = (
        Reservation.objects.filter(pk__in=set(ids))
        .order_by("pk")
        .select_for_update(of=("self",), no_key=True)
    )
    return {row.pk: row for row in rows}


#: number of the advisory lock that makers of levels share and `no_new_levels` has alone (PostgreSQL)
_MAKING = 7_410_003


def making_levels() -> None:
    """Say that this transaction makes stock levels; before it locks any. Makers do not wait for each other.

    They wait for who has asked for `no_new_levels`, and then raise `LostRace`: what was read before (is the SKU
    merged, has the warehouse a dock) may be another thing by now.
    """
    require_transaction()
    if not on_postgres():
        return  # SQLite has one writer at a time
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock_shared(%s)", [_MAKING])
        if cursor.fetchone() == (True,):
            return
        cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", [_MAKING])
    raise LostRace("the rules of a SKU or a warehouse changed while its first units came")


def no_new_levels() -> None:
    """Nobody makes a stock level until this transaction ends, and those being made stand now; before any is locked.

    For acts that must see every level of a SKU or a warehouse: a row that another transaction has not committed
    cannot be seen, and so not be locked either.
    """
    require_transaction()
    if on_postgres():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_MAKING])


def make_levels(pairs: Iterable[Pair]) -> set[Pair]:
    """Make those levels among `pairs` that do not exist, at zero, and return them. Before any level is locked.

    Raises as `making_levels` where one is missing.
    """
    wanted = set(pairs)
    missing = sorted(wanted - read_levels(wanted).keys())
    if missing:
        making_levels()
        columns = {"sku_id": [sku for sku, _ in missing], "warehouse_id": [place for _, place in missing]}
        insert_columns(StockLevel, len(missing), columns, leave_known=True)
    return set(missing)


def change_levels(
    deltas: Mapping[Pair, Mapping[str, int]],
    averages: Mapping[Pair, Decimal] | None = None,
    *,
    seen: Mapping[Pair, int] | None = None,
) -> dict[Pair, Balances]:
    """Add signed `deltas` per bucket to existing levels and return the new balances of those changed.

    A level that is missing, or whose change would promise more than there is, is left as it was and does not
    appear in the answer: the caller decides. So is, with `seen` (units on hand, for every level), one whose on hand
    is another by now. Rows are locked in ascending order inside the statement, because a plain multi-row UPDATE
    locks in whatever order its plan visits them.
    """
    require_transaction()
    pairs = sorted(deltas)
    changed: dict[Pair, Balances] = {}
    if on_postgres() and len(pairs) >= ARRAYS_FROM:
        return _change_chunk(pairs, deltas, averages or {}, seen)
    for start in range(0, len(pairs), CHUNK):
        changed.update(_change_chunk(pairs[start : start + CHUNK], deltas, averages or {}, seen))
    return changed


def _change_chunk(
    pairs: list[Pair],
    deltas: Mapping[Pair, Mapping[str, int]],
    averages: Mapping[Pair, Decimal],
    seen: Mapping[Pair, int] | None,
) -> dict[Pair, Balances]:
    postgres = on_postgres()
    arrays: list[list[Any]] = []
    if postgres and len(pairs) >= ARRAYS_FROM:
        moved = [bucket for bucket in BUCKETS if any(bucket in delta for delta in deltas.values())]
        arrays = [[sku for sku, _ in pairs], [warehouse for _, warehouse in pairs]]
        arrays += [[deltas[pair].get(bucket, 0) for pair in pairs] for bucket in moved]
        types = ["bigint"] * 2 + ["int"] * len(moved)
        named = ["sku", "warehouse", *moved]
        if averages:
            arrays.append([averages.get(pair) for pair in pairs])
            types.append("numeric")
            named.append("average_to")
        if seen is not None:
            arrays.append([seen[pair] for pair in pairs])
            types.append("int")
            named.append("on_hand_seen")
        columns = ["sku", "warehouse", *(bucket if bucket in moved else "0" for bucket in BUCKETS)]
        columns += ["average_to" if averages else "NULL::numeric"] + ["on_hand_seen"] * (seen is not None)
        # as in `_many`, the planner shall not know how many rows there are
        source = (
            f"SELECT {', '.join(columns)} FROM unnest({', '.join(f'(SELECT %s::{name}[])' for name in types)})"  # noqa: S608
            f" AS t ({', '.join(named)})"
        )
    else:
        # only integers of ours go into the text; averages (decimals) are parameters
        source = "VALUES " + ", ".join(
            f"({pair[0]:d}, {pair[1]:d}, {', '.join(f'{deltas[pair].get(bucket, 0):d}' for bucket in BUCKETS)}"
            f"{'' if seen is None else f', {seen[pair]:d}'})"
            for pair in pairs
        )
    held = (
        ", held AS MATERIALIZED (SELECT want.* FROM inventory_stocklevel l JOIN want"
        " ON l.sku_id = want.sku AND l.warehouse_id = want.warehouse"
        " ORDER BY l.sku_id, l.warehouse_id FOR NO KEY UPDATE OF l)"
    )
    known = [] if arrays else [(pair, averages[pair]) for pair in pairs if pair in averages]
    parameters = [str(value) for _, value in known]
    cases = " ".join(
        f"WHEN sku_id = {sku:d} AND warehouse_id = {warehouse:d} THEN CAST(%s AS numeric)"
        for (sku, warehouse), _ in known
    )
    average = f", average_cost = CASE {cases} ELSE average_cost END" if cases else ""
    if arrays:
        average = ", average_cost = coalesce(average_to, average_cost)"
    # every column name is unambiguous, because SQLite's RETURNING knows no alias
    sql = f"""
        WITH want (sku, warehouse, {", ".join(f"{bucket}_by" for bucket in BUCKETS)}{", average_to" if arrays else ""}
          {"" if seen is None else ", on_hand_seen"}) AS ({source}){held if postgres else ""}
        UPDATE inventory_stocklevel
        SET {", ".join(f"{bucket} = {bucket} + {bucket}_by" for bucket in BUCKETS)}{average}
        FROM {"held" if postgres else "want"} AS d
        WHERE sku_id = sku AND warehouse_id = warehouse AND {GUARD}
          {"" if seen is None else "AND on_hand = on_hand_seen"}
        RETURNING sku_id, warehouse_id, {", ".join(BUCKETS)}, average_cost
    """  # noqa: S608 - every value above is an integer or a parameter
    with connection.cursor() as cursor:
        cursor.execute(sql, [*(pg_array(array) for array in arrays), *parameters])
        rows = cursor.fetchall()
    if postgres:  # numeric comes as it is stored
        return {(row[0], row[1]): Balances(*row[2:]) for row in rows}
    return {(row[0], row[1]): Balances(*row[2:-1], _money(row[-1])) for row in rows}  # type: ignore[call-arg]


def _money(value: object) -> Decimal:
    """SQLite hands decimals back as text or float; four decimals are exact again."""
    return Decimal(str(value)).quantize(Decimal("0.0001"))


def set_averages(averages: Mapping[Pair, Decimal]) -> None:
    """Store average costs of locked levels without moving a unit (late landed cost)."""
    change_levels({pair: {} for pair in averages}, averages)
