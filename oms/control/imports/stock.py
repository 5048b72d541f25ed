"""Stock files of every shape: rows to lines, a preview of before and after, and the writing in chunks."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

from channels import mcf
from inventory import operations, selectors, stockfile
from inventory.locking import Pair, retrying, stock_transaction
from inventory.models import AdjustmentReason, Bin, StockLevel, StockMovement, Warehouse
from inventory.stockfile import Decided, StockLine
from oms.control.imports.items import Problem
from oms.control.imports.profiles import Profile, plain
from oms.control.imports.reader import Shape, raw_cells, records, shape_of
from oms.control.imports.report import Report
from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.errors import UserError

#: rows per transaction
CHUNK = 2000
#: mistyped codes of a file that get a suggestion
SUGGESTED = 100


@dataclass(slots=True)
class Asked:
    """A row as read: nothing looked up yet."""

    number: int
    values: list[str]
    code: str
    warehouse: str
    quantity: int
    add: bool
    reason: str = ""
    note: str = ""
    cost: Decimal | None = None
    bin: str = ""
    expected: int | None = None
    unsellable: int = 0
    inbound: int | None = None  # units on their way in; None where the file does not say


@dataclass(frozen=True, slots=True)
class Left:
    """A row that asks nothing (`word`: untouched, not stocked …), or, with a sentence, one that cannot be read."""

    number: int
    values: list[str]
    word: str = ""
    column: str = ""
    message: str = ""


class _Wrong(Exception):
    def __init__(self, field: str, message: str) -> None:
        self.field, self.message = field, message


class StockFile:
    """One file with its shape and the choices made for it."""

    def __init__(self, path: Path, profile: Profile, options: Mapping[str, Any]) -> None:
        self.path, self.profile, self.options = path, profile, options
        self.shape: Shape = shape_of(path)
        self.bound = profile.bind(self.shape.headers, options.get("mapping"))
        missing = profile.missing(self.bound)
        if missing:
            raise UserError(
                f"file: no column is matched to {', '.join(missing)}; match them, or choose another shape.",
                field="file",
            )
        mode = str(options.get("mode") or "")
        if mode and mode not in profile.modes:
            only = "counts (set)" if profile.modes == ("set",) else "changes (add)"
            raise UserError(f"mode: a file of '{profile.title}' holds {only} only.", field="mode")
        if profile.spoken and not mode:
            raise UserError(
                f"mode: a file of '{profile.title}' adds to stock; say so by choosing add.", field="mode"
            )
        self.mode = mode or (profile.modes[0] if len(profile.modes) == 1 else "")
        self._comma = options.get("decimal") == ","
        self._places: dict[str, Warehouse] = {}
        for place in Warehouse.objects.order_by("pk"):
            self._places.setdefault(place.name.strip().upper(), place)
        for place in Warehouse.objects.all():
            self._places[place.code.strip().upper()] = place
        self._reasons = {one.code: one for one in AdjustmentReason.objects.filter(is_active=True)}
        self._bins: dict[tuple[int, str], int] = {}
        self._suggested = 0

    # --- reading ------------------------------------------------------------------------------------

    def rows(self) -> Iterator[Asked | Left]:
        """Every row in order. A cell that is no number is a sentence with its column, never 0."""
        at = {name: self.shape.headers.index(header) for name, header in self.bound.items()}
        skip = self.profile.skip
        names = ("sku", "warehouse", "quantity", "mode", "reason", "note", "unit_cost", "bin", "expected")
        sku, place, quantity, mode, reason, note, cost, where, expected = (at.get(name, -1) for name in names)
        default = str(self.options.get("warehouse") or "")
        width = len(self.shape.headers)
        for number, values in records(self.path, self.shape):
            # short lines are filled up, and one empty cell more stands for the columns that the file has not (-1)
            values += [""] * (max(0, width - len(values)) + 1)
            if skip is not None:

                def named(name: str, values: list[str] = values) -> str:
                    return values[at.get(name, -1)].strip()

                if word := skip(named):
                    yield Left(number, values, word)
                    continue
            try:
                code, warehouse = values[sku].strip(), values[place].strip() or default
                how = values[mode].strip().lower() or self.mode
                if how not in ("set", "add"):
                    raise _Wrong("mode", "mode is missing: choose 'set' (a count) or 'add' (a change).")
                units = self._whole(values[quantity].strip(), "quantity")
                if units < 0 and how == "set":
                    if not self.profile.negative_is_zero:
                        raise _Wrong(
                            "quantity", f"{self._named('quantity')} {units}: a count cannot be negative."
                        )
                    units = 0
                if not code:
                    raise _Wrong("sku", f"{self._named('sku')} is empty.")
                if not warehouse:
                    raise _Wrong(
                        "warehouse",
                        f"{self._named('warehouse')} is empty: name one, or choose it for the file.",
                    )
                price = values[cost].strip()
                was = values[expected].strip()
                yield Asked(
                    number, values, code, warehouse, units, how == "add", values[reason].strip(), values[note].strip(),
                    self._amount(price) if price else None, values[where].strip(),
                    self._whole(was, "expected") if was else None,
                    self._unsellable(values, at, units) if self.profile.snapshot else 0,
                    self._inbound(values, at) if self.profile.snapshot else None,
                )  # fmt: skip
            except _Wrong as wrong:
                yield Left(number, values, "", wrong.field, wrong.message)

    def _named(self, field: str) -> str:
        return self.bound.get(field, field)

    def _whole(self, text: str, field: str) -> int:
        if text.isascii() and text.isdigit() and len(text) < 10:
            return int(text)
        try:
            value = plain(text.replace(",", ".") if self._comma else text)
            if value != value.to_integral_value():
                raise InvalidOperation
            if abs(value) > 1_000_000_000:
                raise InvalidOperation
            return int(value)
        except InvalidOperation:
            shown = f"'{text}' is not a whole number" if text else "is empty; a whole number is needed"
            raise _Wrong(field, f"{self._named(field)} {shown}.") from None

    def _amount(self, text: str) -> Decimal:
        try:
            value = plain(text.replace(",", ".") if self._comma else text)
            if not 0 <= value < Decimal("1e10"):
                raise InvalidOperation
            return value
        except InvalidOperation:
            like = "12,50" if self._comma else "12.50"
            raise _Wrong(
                "unit_cost", f"{self._named('unit_cost')} '{text}' is not an amount; write it like {like}."
            ) from None

    def _unsellable(self, values: list[str], at: Mapping[str, int], fulfillable: int) -> int:
        """Unfit units of an FBA row, after its sum was checked."""
        unfit = self._whole(values[at["unsellable"]].strip(), "unsellable")
        reserved = self._whole(values[at["reserved"]].strip(), "reserved")
        total = self._whole(values[at["total"]].strip(), "total")
        if min(unfit, reserved, total) < 0 or total != fulfillable + unfit + reserved:
            raise _Wrong(
                "total",
                f"{self._named('total')} {total} is not fulfillable {fulfillable} + unsellable {unfit} + "
                f"reserved {reserved}: the file was changed or cut; fetch it again.",
            )
        return unfit

    def _inbound(self, values: list[str], at: Mapping[str, int]) -> int | None:
        """Units that Amazon expects, whatever it has done about them so far."""
        told = [
            self._whole(values[at[name]].strip(), name)
            for name in ("inbound_working", "inbound", "inbound_receiving")
            if name in at
        ]
        if any(units < 0 for units in told):
            raise _Wrong("inbound", f"{self._named('inbound')}: units on their way cannot be negative.")
        return sum(told) if told else None

    # --- looking up ---------------------------------------------------------------------------------

    def lines(self, chunk: Sequence[Asked | Left], report: Report, prefix: str) -> list[StockLine]:
        """The rows that can be tried; the others are counted and told in the report. A few statements per chunk."""
        asked = []
        for row in chunk:
            if isinstance(row, Asked):
                asked.append(row)
            elif row.word:
                report.counts[row.word] += 1
            else:
                self._problem(report, row, row.column, row.message)
        known = selectors.find_codes({row.code for row in asked})
        self._find_bins(asked)
        lines = []
        for row in asked:
            code, place = known.get(row.code), self._places.get(row.warehouse.upper())
            if code is None:
                self._unknown(report, row)
            elif place is None:
                self._problem(
                    report, row, "warehouse", f"{self._named('warehouse')} '{row.warehouse}' is unknown: "
                    f"use one of {', '.join(sorted({p.code for p in self._places.values()})[:8])}.",
                )  # fmt: skip
            elif code.kind in ("kit", "service"):
                what = "a kit, counted by its components" if code.kind == "kit" else "a service without stock"
                self._problem(report, row, "sku", f"{code.code} is {what}.")
            elif self.profile.snapshot and place.kind != Warehouse.Kind.FBA:
                self._problem(
                    report, row, "warehouse", f"{place} is no FBA pool: choose the pool that Amazon keeps."
                )
            elif not self.profile.snapshot and not place.counted_by_us:
                self._problem(
                    report, row, "warehouse",
                    f"{place} is counted by its operator, not by files; bring its own report.",
                )  # fmt: skip
            elif wrong := self._wrong_reason(row):
                self._problem(report, row, *wrong)
            elif row.bin and (place.pk, row.bin.upper()) not in self._bins:
                self._problem(report, row, "bin", f"{self._named('bin')} '{row.bin}' is unknown in {place}.")
            else:
                lines.append(
                    StockLine(
                        row.number, code, place.pk, row.quantity, row.add, f"{prefix}{row.number}", row.reason,
                        row.note, row.cost, self._bins[place.pk, row.bin.upper()] if row.bin else None,
                        row.expected, sellable=self.profile.sellable,
                        numbered=code.serial_tracked and place.kind != Warehouse.Kind.THREEPL,
                    )
                )  # fmt: skip
        return lines

    def _wrong_reason(self, row: Asked) -> tuple[str, str] | None:
        """The column and the sentence that speak against the reason of a row.

        A file whose header has no such column names its reason itself (`file`), and so does a count whose cell is
        empty; a change by hand is not booked without a word why.
        """
        if not row.reason:
            if row.add and row.quantity and "reason" in self.bound:
                return "reason", (
                    f"{self._named('reason')} is empty: say why units are added or taken away; use one of "
                    f"{', '.join(sorted(self._reasons))}."
                )
            return None
        reason = self._reasons.get(row.reason)
        if reason is None:
            return "reason", (
                f"{self._named('reason')} '{row.reason}' is not on the list; use one of "
                f"{', '.join(sorted(self._reasons))}."
            )
        field, why = operations.why_not(reason, row.quantity if row.add else 0, row.note)
        return (field, f"{self._named(field)}: {why}") if field else None

    def _find_bins(self, asked: Iterable[Asked]) -> None:
        codes = {row.bin for row in asked if row.bin}
        if codes:
            found = Bin.objects.filter(code__in=codes | {code.upper() for code in codes}, is_active=True)
            self._bins.update(
                {
                    (place, code.upper()): pk
                    for place, code, pk in found.values_list("warehouse_id", "code", "pk")
                }
            )

    def _unknown(self, report: Report, row: Asked) -> None:
        near: list[str] = []
        if self._suggested < SUGGESTED:
            self._suggested += 1
            near = selectors.closest_codes(row.code)
        fix = f", {near[0]}?" if near else "; this file makes no SKUs."
        self._problem(report, row, "sku", f"{self._named('sku')} '{row.code}' is unknown{fix}")

    def _problem(
        self, report: Report, row: Asked | Left, field: str, message: str, level: str = "error"
    ) -> None:
        raw = raw_cells(self.shape.headers, row.values) if report.room else {}
        report.problem(Problem(row.number, self._named(field), message, level, raw))

    # --- preview ------------------------------------------------------------------------------------

    def preview(
        self,
        report: Report,
        carry: dict[Pair, int] | None = None,
        *,
        after_chunk: Callable[[], None] = lambda: None,
    ) -> Iterator[Decided]:
        """Every row that can be taken with before and after, as things are now; the report fills on the way.

        It goes on behind the rows that the report has already; `carry` holds what these leave on each level.
        `after_chunk` may raise to stop.
        """
        carry = {} if carry is None else carry
        rows = self.rows()
        for _ in islice(rows, report.items):
            pass
        for chunk in _Chunks(rows, CHUNK):
            report.rows += len(chunk)
            report.items += len(chunk)
            by_number = {row.number: row for row in chunk}
            lines = self.lines(chunk, report, "preview:")
            for one in self._foreseen(lines, by_number, carry):
                line, row = one.line, by_number[one.line.number]
                if one.problem:
                    self._problem(report, row, one.column, one.problem)
                    continue
                if not line.add and line.bin_id is None and line.pair in carry and not self.profile.snapshot:
                    told = f"{line.sku.code} is counted a second time; the later row stands."
                    self._problem(report, row, "sku", told, "note")
                carry[line.pair] = one.after
                _count(report, one)
                yield one
            after_chunk()

    def _foreseen(
        self, lines: list[StockLine], rows: Mapping[int, Asked | Left], carry: Mapping[Pair, int]
    ) -> list[Decided]:
        if not self.profile.snapshot:
            return stockfile.preview(lines, carry)
        levels = {
            (level.sku_id, level.warehouse_id): level
            for level in StockLevel.objects.filter(
                sku_id__in={line.sku.id for line in lines},
                warehouse_id__in={line.warehouse_id for line in lines},
            )
        }
        held, unsure = _set_aside({line.warehouse_id for line in lines})
        answer = []
        after: dict[Pair, int] = {}
        for line in lines:
            level = levels.get(line.pair)
            # a second offer of the same goods adds to the first
            before = after.get(line.pair, carry.get(line.pair))
            average = level.average_cost if level else Decimal(0)
            on_hand = level.on_hand if level else 0
            if before is None:
                before, base = on_hand, (level.quarantine if level else 0) + held.get(line.pair, 0)
            else:
                base = before
            units = on_hand if line.pair in unsure else base + line.quantity + _unfit(rows[line.number])
            after[line.pair] = units
            answer.append(Decided(line, before, units, average=average))
        return answer

    # --- writing ------------------------------------------------------------------------------------

    def write(
        self,
        report: Report,
        *,
        actor: Actor,
        prefix: str,
        reference: str,
        skip: int = 0,
        taken_at: dt.datetime | None = None,
        asked_at: dt.datetime | None = None,
        commit: Callable[[Report], None] = lambda part: None,
        after_chunk: Callable[[], None] = lambda: None,
    ) -> None:
        """Apply the file from row `skip` on. Each chunk is one transaction together with `commit(part)`, so a killed
        run repeats no row; `after_chunk` is called between two of them and may raise to stop.

        Row keys begin with `prefix`: what was posted under them before is not posted again. `asked_at`: counts are
        of that moment, for the file waited since; what moved meanwhile stays moved.
        """
        rows = self.rows()
        for _ in islice(rows, skip):
            pass
        report.items = skip
        known = StockMovement.objects.filter(key__startswith=prefix).exists()
        chunks = _Chunks(rows, CHUNK)
        for chunk in chunks:
            tries = 0

            def whole(chunk: list[Asked | Left] = chunk) -> Report:
                nonlocal tries
                tries += 1
                part = Report(report.profile, rows=len(chunk), items=len(chunk))
                with stock_transaction():
                    lines = self.lines(chunk, part, prefix)
                    by_number = {row.number: row for row in chunk}
                    if asked_at is not None and not self.profile.snapshot:
                        stockfile.count_as_of(lines, asked_at, prefix)
                    if not self.profile.snapshot:
                        done = stockfile.post(
                            lines, actor=actor, reference=reference, replay=known or tries > 1
                        )
                        if done.known:
                            part.counts["known"] += done.known
                        for one in done.decided:
                            if one.problem:
                                self._problem(part, by_number[one.line.number], one.column, one.problem)
                            else:
                                _count(part, one)
                    commit(part)
                    chunks.read_on()  # while the database commits
                return part

            if self.profile.snapshot:
                self._snapshot(chunk, actor, prefix, taken_at or now(), report)
            report.add(retrying(whole))
            after_chunk()

    def _snapshot(
        self, chunk: list[Asked | Left], actor: Actor, prefix: str, taken_at: dt.datetime, report: Report
    ) -> None:
        """The operator's figures go through the pool's own door, SKU by SKU, and are harmless when repeated."""
        by_number = {row.number: row for row in chunk}
        figures: dict[int, dict[int, operations.PoolFigure]] = {}
        for line in self.lines(chunk, Report(report.profile), prefix):
            of_place = figures.setdefault(line.warehouse_id, {})
            row = by_number[line.number]
            inbound = row.inbound if isinstance(row, Asked) else None
            before = of_place.get(line.sku.id, operations.PoolFigure(line.sku.id, 0))
            # the same goods may have several offers there: together they are what the pool holds
            of_place[line.sku.id] = operations.PoolFigure(
                line.sku.id, before.sellable + line.quantity, before.damaged + _unfit(row), 0,
                None if inbound is None else inbound + (before.in_transit or 0),
            )  # fmt: skip
        for place, told in figures.items():
            held, unsure = _set_aside({place})
            sure = [
                replace(figure, sellable=figure.sellable + held.get((sku_id, place), 0))
                for sku_id, figure in told.items()
                if (sku_id, place) not in unsure
            ]
            result = operations.apply_pool_snapshot(
                warehouse_id=place, figures=sure, taken_at=taken_at, actor=actor, key=f"{prefix}{place}"
            )
            report.counts["change"] += result.changed
            report.counts["same"] += result.same
            report.counts["newer_here"] += len(result.stale)
            if len(sure) < len(told):
                report.counts["being_handed_over"] += len(told) - len(sure)


def _set_aside(places: Iterable[int]) -> tuple[dict[Pair, int], set[Pair]]:
    """Units that Amazon keeps for orders which it ships for other channels: its fulfillable figure leaves them out
    although they lie there until we book their shipment. The second: nobody knows yet whether it has set them aside."""
    held: dict[Pair, int] = {}
    unsure: set[Pair] = set()
    for pool in Warehouse.objects.filter(pk__in=set(places), kind=Warehouse.Kind.FBA):
        units, open_ = mcf.set_aside(pool)
        held |= {(sku_id, pool.pk): count for sku_id, count in units.items()}
        unsure |= {(sku_id, pool.pk) for sku_id in open_}
    return held, unsure


T = TypeVar("T")


class _Chunks(Generic[T]):
    """Rows in lists of `size`."""

    def __init__(self, rows: Iterable[T], size: int) -> None:
        self._rows, self._size = iter(rows), size
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="rows")
        self._coming: Future[list[T]] | None = None

    def read_on(self) -> None:
        """Read the next list now, while the caller waits for the database; reading asks none."""
        if self._coming is None:
            self._coming = self._reader.submit(self._read)

    def __iter__(self) -> Iterator[list[T]]:
        with self._reader:
            while chunk := self._coming.result() if self._coming else self._read():
                self._coming = None
                yield chunk

    def _read(self) -> list[T]:
        return list(islice(self._rows, self._size))


def _unfit(row: Asked | Left) -> int:
    return row.unsellable if isinstance(row, Asked) else 0


def _count(report: Report, one: Decided) -> None:
    counts = report.counts
    if not one.change:
        counts["same"] += 1
        return
    report.total.add(one.change, one.value)
    counts["change"] += 1
    counts["units_in" if one.change > 0 else "units_out"] += abs(one.change)
    if not one.after:
        counts["to_zero"] += 1
