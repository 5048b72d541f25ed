"""Check a file without writing, then apply it in small transactions through the same services as the screens.

Applying is harmless when repeated: orders are unique by their number, movements and receipts by a key
made of the file's profile, document and row. A stopped or killed run is simply run again.
"""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from django.db import transaction

from inventory import approvals, selectors
from inventory.ledger import Movement, post_movements
from inventory.models import Product, Sku, StockLevel, StockMovement, Warehouse
from oms.control.imports.items import (
    AdjustItem,
    CreditItem,
    Item,
    NewSku,
    OrderItem,
    Problem,
    PurchaseItem,
)
from oms.control.imports.profiles import PROFILES, Profile, detect
from oms.control.imports.reader import digest as reader_digest
from oms.control.imports.reader import rows, shape_of
from oms.control.imports.report import Report
from oms.control.imports.stock import StockFile
from oms.control.models import ImportFile, ImportRow
from oms.core.actor import Actor
from oms.core.clock import business_day
from oms.core.csvsafe import safe_cell
from oms.core.errors import NotFound, UserError
from oms.orders import intake
from oms.orders.models import Order, SalesChannel
from procurement import landed, purchase_orders
from procurement.models import PurchaseOrder, Supplier
from returns import rma

CHUNK = 100
#: rows of before → after kept for the screen; the whole list is a download
SHOWN = 200


def choose_profile(path: Path, kind: str, name: str = "", mapping: dict[str, str] | None = None) -> Profile:
    """The profile asked for, or the one the headers fit. Raises `UserError` with what is missing."""
    shape = shape_of(path)
    if name:
        profile = PROFILES.get(name)
        if profile is None or profile.kind != kind:
            known = ", ".join(sorted(p.name for p in PROFILES.values() if p.kind == kind))
            raise UserError(f"profile: '{name}' is unknown for {kind}; use one of {known}.", field="profile")
    else:
        profile = detect(shape.headers, kind)
        if profile is None:
            raise UserError(
                f"file: no known shape of {kind} has the columns {', '.join(shape.headers[:12])}.",
                field="file",
            )
    missing = profile.missing(profile.bind(shape.headers, mapping))
    if missing:
        raise UserError(
            f"file: the columns {', '.join(missing)} are missing for '{profile.title}'.", field="file"
        )
    return profile


def options_for(
    kind: str,
    *,
    channel_code: str = "",
    warehouse_code: str = "",
    mode: str = "",
    decimal: str = ".",
    mapping: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Resolve what the user chose. Raises `UserError` naming the choice to make."""
    if decimal not in (".", ","):
        raise UserError("decimal: choose dot or comma.", field="decimal")
    found: dict[str, Any] = {
        "mode": mode, "zone": dt.UTC, "warehouse": warehouse_code, "decimal": decimal, "mapping": mapping or {},
    }  # fmt: skip
    if kind == "orders":
        channel = SalesChannel.objects.filter(code=channel_code).first()
        if channel is None:
            known = (
                ", ".join(SalesChannel.objects.values_list("code", flat=True)) or "none yet: make one first"
            )
            raise UserError(f"channel: choose the channel these orders belong to ({known}).", field="channel")
        found |= {"channel": channel, "currency": channel.currency, "zone": ZoneInfo(channel.time_zone)}
    if warehouse_code and not Warehouse.objects.filter(code=warehouse_code).exists():
        raise UserError(f"warehouse: there is no warehouse '{warehouse_code}'.", field="warehouse")
    return found


def items(path: Path, profile: Profile, options: dict[str, Any], report: Report) -> Iterator[Item]:
    """The file's items, counting rows on the way."""

    assert profile.read is not None  # stock files are read by stock.py
    shape = shape_of(path)
    bound = profile.bind(shape.headers, options.get("mapping"))
    names = {ours: header for ours, header in bound.items() if ours != header}

    def counted() -> Iterator[Any]:
        for row in rows(path, shape, names):
            report.rows += 1
            yield row

    return profile.read(counted(), options)


@dataclass
class Checking:
    """What a check has found so far: enough to go on behind the items that it has looked at."""

    report: Report
    carry: dict[tuple[int, int], int] = field(default_factory=dict)  # what a stock file leaves on each level

    def told(self) -> dict[str, Any]:
        """All of it as JSON; `heard` reads it back."""
        return {"report": self.report.told(), "carry": [[*pair, left] for pair, left in self.carry.items()]}

    @classmethod
    def heard(cls, told: Mapping[str, Any]) -> Checking:
        """What `told` wrote down."""
        carry = {(sku, place): left for sku, place, left in told["carry"]}
        return cls(Report.heard(told["report"]), carry)


def check(
    path: Path,
    profile: Profile,
    options: dict[str, Any],
    found: Checking | None = None,
    *,
    after_chunk: Callable[[], None] = lambda: None,
) -> Report:
    """Read the whole file and say what applying it would do; nothing is written.

    `after_chunk` is called between two chunks and may raise to stop; the same `found` goes on where it stopped.
    """
    found = found or Checking(Report(profile.name))
    report = found.report
    if profile.kind == "stock":
        file = StockFile(path, profile, options)
        for one in file.preview(report, found.carry, after_chunk=after_chunk):
            if not one.change:
                continue
            line = one.line
            report.places.add(line.warehouse_id)
            if len(report.shown) < SHOWN:
                report.shown.append((line.number, line.sku.code, line.warehouse_id, one.before, one.after))
        return report
    report.rows = 0  # those before are read over again
    stream = items(path, profile, options, report)
    for _ in islice(stream, report.items):
        pass
    while chunk := list(islice(stream, 500)):
        report_chunk(chunk, report, options)
        report.items += len(chunk)
        after_chunk()
    return report


def report_chunk(chunk: list[Item], report: Report, options: dict[str, Any]) -> None:
    """Count one chunk of items against what is stored already."""
    codes: set[str] = set()
    numbers: list[str] = []
    for item in chunk:
        if isinstance(item, OrderItem):
            codes |= {line.external_sku for line in item.draft.lines if line.kind == "product"}
            numbers.append(item.draft.external_id)
        elif isinstance(item, CreditItem):
            codes |= {line.code for line in item.lines}
        elif isinstance(item, AdjustItem):
            codes.add(item.code)
        elif isinstance(item, PurchaseItem):
            codes |= {line.code for line in item.lines}
    known = selectors.resolve_codes(sorted(codes))
    new = {code.upper() for code in codes if code not in known}
    report.new_codes |= new
    report.counts["unknown_skus"] = len(report.new_codes)
    there: set[str] = set()
    if numbers:
        there = set(
            Order.objects.filter(channel=options["channel"], external_id__in=numbers).values_list(
                "external_id", flat=True
            )
        )
    corrected: list[AdjustItem] = []
    for item in chunk:
        if isinstance(item, Problem):
            report.problem(item)
        elif isinstance(item, OrderItem):
            report.counts["orders"] += 1
            report.counts["order_lines"] += len(item.draft.lines)
            report.counts["service_lines"] += sum(line.kind == "service" for line in item.draft.lines)
            report.counts["units"] += sum(
                line.quantity for line in item.draft.lines if line.kind == "product"
            )
            report.counts["orders_known"] += item.draft.external_id in there
        elif isinstance(item, CreditItem | AdjustItem) and (missing := _no_warehouse(options)):
            report.problem(Problem(item.row, missing.field, missing.message))  # as it would be when applied
        elif isinstance(item, CreditItem):
            report.counts["credit_notes"] += 1
            report.counts["credited_units"] += sum(line.quantity for line in item.lines)
        elif isinstance(item, AdjustItem):
            report.counts["adjustments"] += 1
            report.counts["adjusted_units"] += item.quantity
            corrected.append(item)
        elif isinstance(item, PurchaseItem):
            report.counts["purchase_orders"] += 1
            report.counts["purchase_lines"] += len(item.lines)

    if corrected:
        place = _warehouse(options)
        report.places.add(place.pk)
        levels = dict(
            StockLevel.objects.filter(
                warehouse=place, sku__in=[known[item.code].pk for item in corrected if item.code in known]
            ).values_list("sku", "average_cost")
        )
        for item in corrected:
            if (sku := known.get(item.code)) is not None:
                cost = levels.get(sku.pk, Decimal(0))
                report.total.add(item.quantity, approvals.worth(item.quantity, cost, sku.unit_cost))


def apply(
    path: Path,
    profile: Profile,
    options: dict[str, Any],
    *,
    actor: Actor,
    create_skus: bool = False,
    progress: Callable[[Report], bool] | None = None,
    skip: int = 0,
) -> Report:
    """Write the file's items, each chunk in short transactions. `progress` is called per chunk; False stops.

    `skip` items were written by an earlier run of the same file and are only read over.

    Rows that cannot be written are problems of the report; they never stop the others.
    """
    report = Report(profile.name)
    if profile.kind == "stock":
        StockFile(path, profile, options).write(
            report, actor=actor, prefix=key_prefix(reader_digest(path)), reference=path.name
        )
        return report
    stream = items(path, profile, options, report)
    report.items = sum(1 for _ in islice(stream, skip))
    while chunk := list(islice(stream, CHUNK)):
        problems = [item for item in chunk if isinstance(item, Problem)]
        for problem in problems:
            report.problem(problem)
        _apply_orders(
            [item for item in chunk if isinstance(item, OrderItem)], report, options, actor, create_skus
        )
        for item in chunk:
            try:
                if isinstance(item, CreditItem):
                    _apply_credit(item, report, options, actor, create_skus)
                elif isinstance(item, AdjustItem):
                    _apply_adjustment(item, report, options, actor, create_skus)
                elif isinstance(item, PurchaseItem):
                    _apply_purchase(item, report, actor)
            except UserError as error:
                report.problem(Problem(item.row, error.field, error.message))
        report.items += len(chunk)
        if progress and not progress(report):
            break
    return report


def _make_skus(wanted: dict[str, NewSku]) -> None:
    """Put unknown product codes into the catalogue; case variants are one SKU."""
    known = selectors.resolve_codes(sorted(wanted))
    new = {code.upper(): sku for code, sku in wanted.items() if code not in known}
    if not new:
        return
    with transaction.atomic():
        products = Product.objects.bulk_create(
            Product(title=(sku.title or code)[:255]) for code, sku in new.items()
        )
        Sku.objects.bulk_create(
            Sku(product=product, code=code[:80], price=sku.price, currency=sku.currency)
            for product, (code, sku) in zip(products, new.items(), strict=True)
        )


def _apply_orders(
    found: list[OrderItem], report: Report, options: dict[str, Any], actor: Actor, create_skus: bool
) -> None:
    if not found:
        return
    if create_skus:
        _make_skus({sku.code: sku for item in found for sku in item.skus})
    taken = intake.take([item.draft for item in found], channel=options["channel"], actor=actor, source="csv")
    for item, result in zip(found, taken, strict=True):
        report.counts[f"orders_{result.outcome}"] += 1
        if result.outcome == "error":
            report.problem(Problem(item.row, "", f"{item.draft.external_id}: {result.message}"))


def _warehouse(options: dict[str, Any]) -> Warehouse:
    code = options.get("warehouse")
    if code:
        return Warehouse.objects.get(code=code)
    link = options["channel"].warehouses.filter(fulfils=True).select_related("warehouse").first()
    if link is None:
        raise UserError(
            "warehouse: name the warehouse for returned and corrected stock (--warehouse).", field="warehouse"
        )
    return link.warehouse


def _no_warehouse(options: dict[str, Any]) -> UserError | None:
    """Why returned and corrected goods would have no place to go; None when they have one."""
    try:
        _warehouse(options)
    except UserError as error:
        return error
    return None


def _apply_credit(
    item: CreditItem, report: Report, options: dict[str, Any], actor: Actor, create_skus: bool
) -> None:
    if create_skus:
        _make_skus(
            {line.code: NewSku(line.code, line.title, Decimal(0), options["currency"]) for line in item.lines}
        )
    known = selectors.resolve_codes([line.code for line in item.lines])
    goods = []
    for line in item.lines:
        if line.code in known:
            goods.append((known[line.code].pk, line.quantity))
        else:
            report.problem(Problem(line.row, "StockCode", f"SKU '{line.code}' of {item.number} is unknown."))
    if not goods:
        return
    rma.receive_unannounced(
        warehouse_id=_warehouse(options).pk,
        goods=goods,
        actor=actor,
        key=f"import:{options['channel'].code}:{item.number}",
        note=f"credit note {item.number}",
    )
    report.counts["credit_notes"] += 1
    report.counts["credited_units"] += sum(quantity for _, quantity in goods)


def _apply_adjustment(
    item: AdjustItem, report: Report, options: dict[str, Any], actor: Actor, create_skus: bool
) -> None:
    if create_skus:
        _make_skus({item.code: NewSku(item.code, item.title, Decimal(0), options["currency"])})
    sku = selectors.resolve_codes([item.code]).get(item.code)
    if sku is None:
        raise UserError(f"SKU '{item.code}' is unknown.", field="StockCode")
    if sku.serial_tracked:
        raise UserError(
            f"Every unit of {sku} has a serial number, and a file names none: adjust by hand, with the numbers.",
            field="Quantity",
        )
    warehouse = _warehouse(options)
    key = f"import:{options['channel'].code}:{item.key}"
    if StockMovement.objects.filter(key=key).exists():
        report.counts["adjustments_known"] += 1
        return
    quantity = item.quantity
    if quantity < 0:
        level = StockLevel.objects.filter(sku=sku, warehouse=warehouse).first()
        free = level.available if level else 0
        if free < -quantity:
            report.problem(
                Problem(
                    item.row,
                    "Quantity",
                    f"{item.code}: {-quantity} to write off, {free} available; {free} written off.",
                    "note",
                )
            )
            quantity = -free
    if quantity:
        kind = StockMovement.Kind.FOUND if quantity > 0 else StockMovement.Kind.WRITE_OFF
        with transaction.atomic():
            post_movements(
                [
                    Movement(
                        sku_id=sku.pk,
                        warehouse_id=warehouse.pk,
                        bucket="on_hand",
                        quantity=quantity,
                        kind=kind,
                        key=key,
                        reason=item.reason[:60],
                        reference=item.key[:80],
                    )
                ],
                actor=actor,
            )
        report.counts["adjusted_units"] += quantity
    report.counts["adjustments"] += 1


def key_prefix(digest: str, again: int | None = None) -> str:
    """How the keys of this very file's rows begin, so that applying it twice posts each row once.

    A file that was undone may come back: it then counts as another one. `again`: so many times before, if known.
    """
    if again is None:
        again = ImportFile.objects.filter(sha256=digest, state=ImportFile.State.UNDONE).count()
    return f"import:{digest[:24]}:{f'{again}:' if again else ''}"


def _apply_purchase(item: PurchaseItem, report: Report, actor: Actor) -> None:
    supplier = (
        Supplier.objects.filter(code=item.supplier).first()
        or Supplier.objects.filter(name=item.supplier).first()
    )
    if supplier is None:
        raise UserError(f"supplier '{item.supplier}' is unknown: make it first.", field="supplier")
    warehouse = Warehouse.objects.filter(code=item.warehouse).first()
    if warehouse is None:
        raise UserError(f"warehouse '{item.warehouse}' is unknown.", field="warehouse")
    if PurchaseOrder.objects.filter(supplier=supplier, external_number=item.number).exists():
        report.counts["purchase_orders_known"] += 1
        return
    known = selectors.resolve_codes([line.code for line in item.lines])
    for line in item.lines:
        if line.code not in known:
            raise NotFound(f"row {line.row}: SKU '{line.code}' is unknown.", field="sku")
    ordered = item.ordered_on
    if ordered is None and item.expected_on is not None:
        # an overdue order, brought in without the day on which it was placed
        ordered = min(item.expected_on, business_day())
    with transaction.atomic():
        order = purchase_orders.create(
            supplier_id=supplier.pk,
            warehouse_id=warehouse.pk,
            actor=actor,
            currency=item.currency,
            expected_on=item.expected_on,
            ordered_on=ordered,
            external_number=item.number,
            note=item.note,
            lines=[
                purchase_orders.LineSpec(known[line.code].pk, line.quantity, line.unit_cost)
                for line in item.lines
            ],
        )
        if item.freight:
            landed.add_charge(order.pk, kind="freight", basis="value", amount=item.freight, actor=actor)
        if item.duty:
            landed.add_charge(order.pk, kind="duty", basis="value", amount=item.duty, actor=actor)
    report.counts["purchase_orders_created"] += 1


def keep(
    path: Path,
    profile: Profile,
    report: Report,
    *,
    kind: str,
    name: str,
    digest: str,
    actor: Actor,
    applied: bool,
) -> ImportFile:
    """Store what the file was, what happened, and the rows that need eyes."""
    with transaction.atomic():
        file = ImportFile.objects.create(
            kind=kind,
            profile=profile.name,
            name=name[:255],
            sha256=digest,
            size=path.stat().st_size,
            state=ImportFile.State.APPLIED if applied else ImportFile.State.CHECKED,
            rows=report.rows,
            counts=dict(report.counts),
            created_by=str(actor),
        )
        ImportRow.objects.bulk_create(
            (
                ImportRow(
                    file=file,
                    number=p.row,
                    level=p.level,
                    column=p.column[:80],
                    message=p.message[:400],
                    raw=p.raw,
                )
                for p in report.problems
            ),
            batch_size=500,
        )
    return file


def write_problems(report: Report, path: Path) -> None:
    """errors.csv: the user's own columns, plus row, level and what to mend."""
    columns: list[str] = []
    for problem in report.problems:
        columns += [name for name in problem.raw if name not in columns]
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "Row", "Level", "Error"])
        for problem in report.problems:
            cells = [problem.raw.get(name, "") for name in columns]
            writer.writerow(
                [safe_cell(cell) for cell in [*cells, problem.row, problem.level, problem.message]]
            )
