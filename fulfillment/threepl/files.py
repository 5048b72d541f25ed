"""CSV files for 3PLs without an API: an order file and a file of expected deliveries per run out; acknowledgements,
shipments, charges, receipts, figures and adjustments in.

Out: rows of action `order` or `cancel`, `expect` or `withdraw`, written once, kept as they were, every cell safe for
spreadsheets.
In: the kind is known by its columns. A file is taken whole or not at all; what is wrong is named by row and column.
The same bytes are taken once. Folders under OMS_HOME/threepl/<code>/: out, in, done, failed.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F

from fulfillment.models import HandOff, InboundNotice, ThreePLAccount, ThreePLCall, ThreePLFile
from fulfillment.threepl import handoff, inbound, inbox, messages
from inventory.selectors import resolve_codes
from oms.core import arrivals
from oms.core.actor import Actor, task_actor
from oms.core.arrivals import Arrived
from oms.core.audit import record
from oms.core.clock import now
from oms.core.csvsafe import stream_csv
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.exceptions_inbox import close_item, raise_item
from oms.core.uploads import MAX_BYTES, read_table

log = logging.getLogger("lading.threepl")

ORDER_HEADER = (
    "action", "reference", "order_number", "line", "sku", "quantity", "service", "ship_by", "name", "company",
    "address1", "address2", "city", "region", "postal_code", "country", "phone", "cancel_key",
)  # fmt: skip
INBOUND_HEADER = (
    "action", "reference", "kind", "from", "expected_on", "line", "sku", "quantity", "lots",
)  # fmt: skip
#: kind → columns that must be there
KINDS: dict[str, tuple[str, ...]] = {
    "shipments": ("shipment_id", "reference", "sku", "quantity", "shipped_at", "tracking"),
    "charges": ("charge_id", "reference", "kind", "amount", "currency", "charged_at"),
    "receipts": ("receipt_id", "reference", "sku", "good", "received_at"),
    "acks": ("reference", "status"),
    "adjustments": ("adjustment_id", "sku", "quantity", "reason", "adjusted_at"),
    "snapshot": ("sku", "on_hand", "taken_at"),
}
MAX_PROBLEMS = 200
BATCH = 1000


# --- out -------------------------------------------------------------------------------------------


def write_due() -> int:
    """An order file for every CSV account that has something to say; returns how many were written."""
    made = 0
    waiting = ThreePLAccount.objects.filter(
        kind=ThreePLAccount.Kind.CSV, state=ThreePLAccount.State.CONNECTED
    )
    for account in waiting.order_by("pk"):
        made += write_orders(account.pk, actor=task_actor("3pl")) is not None
        made += write_inbound(account.pk, actor=task_actor("3pl")) is not None
        drop(account)
    return made


def write_orders(account_id: int, *, actor: Actor) -> ThreePLFile | None:
    """Put everything planned into one file; None when there is nothing. A crash leaves all or nothing planned."""
    with transaction.atomic():
        # the counter is the lock: two runs never take the same hand-offs
        ThreePLAccount.objects.filter(pk=account_id).update(files_written=F("files_written") + 1)
        account = ThreePLAccount.objects.get(pk=account_id)
        taken, rows = _orders(account, actor)
        cancels, more = _cancels(account)
        rows += more
        if not rows:
            transaction.set_rollback(True)
            return None
        file = _kept(account, "orders", ORDER_HEADER, rows, actor)
        at = now()
        HandOff.objects.filter(pk__in=taken).update(state=HandOff.State.SENT, sent_at=at, file=file)
        ThreePLCall.objects.filter(pk__in=cancels).update(
            state=ThreePLCall.State.SENT, sent_at=at, attempts=F("attempts") + 1
        )
        record(actor, "threepl.file_written", account, after={"file": file.name, "rows": len(rows)})
    return file


def write_inbound(account_id: int, *, actor: Actor) -> ThreePLFile | None:
    """What they are to expect, or no longer, in one file; None when there is nothing new."""
    with transaction.atomic():
        ThreePLAccount.objects.filter(pk=account_id).update(files_written=F("files_written") + 1)
        account = ThreePLAccount.objects.get(pk=account_id)
        waiting = ThreePLCall.objects.filter(
            account=account, kind__in=(ThreePLCall.Kind.INBOUND, ThreePLCall.Kind.WITHDRAW),
            state=ThreePLCall.State.PLANNED,
        )  # fmt: skip
        told = list(waiting.order_by("pk")[:BATCH])
        rows = [row for call in told for row in _expected(call)]
        if not rows:
            transaction.set_rollback(True)
            return None
        file = _kept(account, "inbound", INBOUND_HEADER, rows, actor)
        ThreePLCall.objects.filter(pk__in=[call.pk for call in told]).update(
            sent_at=now(), attempts=F("attempts") + 1
        )
        for call in told:  # a file has no answer: what is written is told
            inbound.accepted(call)
        record(actor, "threepl.file_written", account, after={"file": file.name, "rows": len(rows)})
    return file


def _expected(call: ThreePLCall) -> list[list[Any]]:
    body = call.payload
    if call.kind == ThreePLCall.Kind.WITHDRAW:
        return [["withdraw", body["reference"], *[""] * (len(INBOUND_HEADER) - 2)]]
    return [
        [
            "expect", body["reference"], body["kind"], body["from"], body["expected_on"] or "", line["line"],
            line["sku"], line["quantity"], " ".join(f"{one['lot']}:{one['quantity']}" for one in line.get("lots", [])),
        ]
        for line in body["lines"]
    ]  # fmt: skip


def _kept(
    account: ThreePLAccount, kind: str, header: Sequence[str], rows: Sequence[Sequence[Any]], actor: Actor
) -> ThreePLFile:
    text = "".join(stream_csv(header, rows))
    name = f"{account.code}-{kind}-{account.files_written:06d}.csv"
    # with the name: a delivery that changed and changed back is news, in the words of an earlier file
    digest = hashlib.sha256(f"{name}\n{text}".encode()).hexdigest()
    return ThreePLFile.objects.create(
        account=account, direction=ThreePLFile.Direction.OUT, kind=kind, name=name, sha256=digest, content=text,
        rows=len(rows), actor=str(actor),
    )  # fmt: skip


def _orders(account: ThreePLAccount, actor: Actor) -> tuple[list[int], list[list[Any]]]:
    taken: list[int] = []
    rows: list[list[Any]] = []
    waiting = HandOff.objects.filter(account=account, state=HandOff.State.PLANNED).order_by("pk")
    for pk in waiting.values_list("pk", flat=True)[:BATCH]:
        hand_off = handoff.lock(pk)
        if hand_off.state != HandOff.State.PLANNED:
            continue
        try:
            body = handoff.order_body(hand_off)
        except UserError as error:
            handoff.refuse(pk, error.message, actor=actor)
            continue
        to: dict[str, Any] = body["ship_to"]
        taken.append(pk)
        rows += [
            [
                "order", body["reference"], body["order_number"], line["line"], line["sku"], line["quantity"],
                body["service"], body["ship_by"], to["name"], to["company"], to["address1"], to["address2"],
                to["city"], to["region"], to["postal_code"], to["country"], to["phone"], "",
            ]
            for line in body["lines"]
        ]  # fmt: skip
    return taken, rows


def _cancels(account: ThreePLAccount) -> tuple[list[int], list[list[Any]]]:
    taken: list[int] = []
    rows: list[list[Any]] = []
    waiting = ThreePLCall.objects.filter(
        account=account, kind=ThreePLCall.Kind.CANCEL, state=ThreePLCall.State.PLANNED
    )
    for call in waiting.select_related("hand_off__shipment__order").order_by("pk")[:BATCH]:
        assert call.hand_off is not None
        codes = {line.number: line.sku.code for line in call.hand_off.lines.select_related("sku")}
        taken.append(call.pk)
        for number, units in call.payload["lines"]:
            row: list[Any] = [""] * len(ORDER_HEADER)
            row[:6] = [
                "cancel", call.hand_off.reference, call.hand_off.shipment.order.number, number, codes[number], units,
            ]  # fmt: skip
            row[-1] = call.key
            rows.append(row)
    return taken, rows


def drop(account: ThreePLAccount) -> int:
    """Lay order files that are not there yet into the account's out folder; returns how many."""
    laid = 0
    for file in account.files.filter(direction=ThreePLFile.Direction.OUT).order_by("-pk")[:20]:
        target = folder(account, "out") / file.name
        mark = folder(account, "out") / f".{file.name}.laid"
        if mark.exists():
            continue
        temporary = target.with_suffix(".part")
        arrivals.write(temporary, file.content, mode=0o640)
        os.replace(temporary, target)
        mark.touch()  # they may fetch and remove the file: it is not laid twice
        laid += 1
    return laid


def folder(account: ThreePLAccount, name: str) -> Path:
    """One of the account's folders, made when missing. `code` is a slug, so it cannot lead elsewhere."""
    path = Path(settings.HOME) / "threepl" / account.code / name
    path.mkdir(parents=True, exist_ok=True, mode=0o750)
    return path


# --- in --------------------------------------------------------------------------------------------


@dataclass
class Parsed:
    """Messages of a file as (part of the delivery number, topic, body), and what is wrong with it."""

    kind: str
    rows: int = 0
    found: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    problems: list[tuple[int, str, str]] = field(default_factory=list)

    def wrong(self, row: int, column: str, sentence: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append((row, column, sentence))


def take(account_id: int, name: str, data: bytes, *, actor: Actor) -> ThreePLFile:
    """Take a file of the 3PL: all of it becomes messages, or nothing and `problems` say why. Once per content.

    Raises `UserError` for a file that cannot be read at all, `Conflict` for one that was taken before.
    """
    account = ThreePLAccount.objects.select_related("warehouse").get(pk=account_id)
    digest = hashlib.sha256(data).hexdigest()
    before = account.files.filter(direction=ThreePLFile.Direction.IN, sha256=digest, accepted=True).first()
    if before is not None:
        raise Conflict(
            f"file: this very file was taken on {before.created_at:%Y-%m-%d at %H:%M} UTC as {before.name}. "
            "Nothing was changed.",
            field="file",
        )
    parsed = parse(account, data, digest)
    name = arrivals.title_of(name)[-160:]
    values = {
        "account": account, "direction": ThreePLFile.Direction.IN, "kind": parsed.kind, "name": name,
        "sha256": digest, "rows": parsed.rows, "actor": str(actor),
    }  # fmt: skip
    with transaction.atomic():
        if parsed.problems:
            file = ThreePLFile.objects.create(
                **values, accepted=False, problems=[list(problem) for problem in parsed.problems]
            )
            raise_item(
                "threepl_file", f"threepl:file:{account.pk}:{parsed.kind}",
                f"{account}: {name} was not taken"[:200],
                detail="; ".join(f"row {r}, {c}: {s}" for r, c, s in parsed.problems[:5]),
                url=f"/threepl/{account.code}/", warehouse_code=account.warehouse.code,
            )  # fmt: skip
            return file
        file = ThreePLFile.objects.create(**values)
        for part, topic, body in parsed.found:
            inbox.accept(account, f"file:{digest[:32]}:{part}", topic, body)
        record(actor, "threepl.file_taken", account, after={"file": name, "rows": parsed.rows})
        close_item(f"threepl:file:{account.pk}:{parsed.kind}", f"{name} was taken", actor=actor)
    return file


def parse(account: ThreePLAccount, data: bytes, digest: str) -> Parsed:
    """Read and check a file without changing anything. Raises `UserError` when it is no such file."""
    table = read_table(data)
    header = [name.strip().lower().replace(" ", "_") for name in table.header]
    kind = next((kind for kind, wanted in KINDS.items() if set(wanted) <= set(header)), "")
    if not kind:
        shapes = "; ".join(f"{kind}: {', '.join(wanted)}" for kind, wanted in KINDS.items())
        raise UserError(f"file: its columns fit no known file. Needed are, for {shapes}.", field="file")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise UserError(f"file: the column {twice[0]} is there twice.", field="file")
    parsed = Parsed(kind)
    rows: list[tuple[int, dict[str, str]]] = []
    for number, cells in enumerate(table.rows, start=2):
        if any(cell.strip() for cell in cells):
            texts = [cell.strip() for cell in cells] + [""] * (len(header) - len(cells))
            rows.append((number, dict(zip(header, texts, strict=False))))
    parsed.rows = len(rows)
    if not rows:
        raise UserError("file: it has a header and no rows.", field="file")
    _READERS[kind](account, rows, parsed, digest)
    _codes_known(kind, rows, parsed)
    return parsed


Rows = list[tuple[int, dict[str, str]]]


def _checked(parsed: Parsed, number: int, topic: str, body: Mapping[str, Any]) -> bool:
    try:
        messages.read(topic, body, now())
    except UserError as error:
        parsed.wrong(number, error.field, error.message)
        return False
    return True


def _acks(account: ThreePLAccount, rows: Rows, parsed: Parsed, digest: str) -> None:
    known = _references(account, rows)
    for number, row in rows:
        body = {
            name: row.get(name, "") for name in ("reference", "status", "order_id", "reason", "cancel_key")
        }
        if _known(parsed, known, number, row) and _checked(parsed, number, "order.status", body):
            parsed.found.append((f"{number}", "order.status", body))


def _shipments(account: ThreePLAccount, rows: Rows, parsed: Parsed, digest: str) -> None:
    known = _references(account, rows)
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for number, row in rows:
        if not _known(parsed, known, number, row):
            continue
        line: dict[str, Any] = {"sku": row["sku"], "quantity": row["quantity"]}
        if row.get("line"):
            line["line"] = row["line"]
        parcel = {
            "carrier": row.get("carrier", ""), "service": row.get("service", ""), "tracking": row["tracking"],
            "weight_g": row.get("weight_g", ""), "cost": row.get("cost", ""), "currency": row.get("currency", ""),
            "lines": [line],
        }  # fmt: skip
        one = {
            "reference": row["reference"], "shipment_id": row["shipment_id"], "shipped_at": row["shipped_at"],
            "parcels": [parcel],
        }  # fmt: skip
        if not _checked(parsed, number, "shipment.created", one):
            continue
        group = groups.setdefault((row["reference"].upper(), row["shipment_id"]), {**one, "parcels": []})
        same = next((box for box in group["parcels"] if box["tracking"] == parcel["tracking"]), None)
        if same is None:
            group["parcels"].append(parcel)
        else:
            same["lines"].append(line)
    for index, body in enumerate(groups.values(), start=1):
        parsed.found.append((f"{index}", "shipment.created", body))


def _charges(account: ThreePLAccount, rows: Rows, parsed: Parsed, digest: str) -> None:
    known = _references(account, rows)
    for number, row in rows:
        if _known(parsed, known, number, row) and _checked(parsed, number, "shipment.charged", row):
            parsed.found.append((f"{number}", "shipment.charged", row))


def _receipts(account: ThreePLAccount, rows: Rows, parsed: Parsed, digest: str) -> None:
    known = {
        name.upper()
        for name in InboundNotice.objects.filter(account=account).values_list("reference", flat=True)
    }
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for number, row in rows:
        if row["reference"].upper() not in known:
            parsed.wrong(
                number, "reference", f"reference: they were never told to expect '{row['reference'][:40]}'."
            )
            continue
        names = ("sku", "line", "good", "damaged", "quarantine", "lot", "expires_on")
        line = {name: row.get(name, "") for name in names}
        one = {
            "reference": row["reference"], "receipt_id": row["receipt_id"], "received_at": row["received_at"],
            "complete": row.get("complete", ""), "lines": [line],
        }  # fmt: skip
        if not _checked(parsed, number, "inbound.received", one):
            continue
        group = groups.setdefault((row["reference"].upper(), row["receipt_id"]), {**one, "lines": []})
        group["lines"].append(line)
        group["complete"] = group["complete"] or one["complete"]
    for index, body in enumerate(groups.values(), start=1):
        parsed.found.append((f"{index}", "inbound.received", body))


def _adjustments(account: ThreePLAccount, rows: Rows, parsed: Parsed, digest: str) -> None:
    for number, row in rows:
        if _checked(parsed, number, "inventory.adjusted", row):
            parsed.found.append((f"{number}", "inventory.adjusted", row))


def _snapshot(account: ThreePLAccount, rows: Rows, parsed: Parsed, digest: str) -> None:
    levels = []
    taken = rows[0][1].get("taken_at", "")
    seen: dict[str, int] = {}
    for number, row in rows:
        level = {"sku": row["sku"], "on_hand": row.get("on_hand", ""), "damaged": row.get("damaged") or 0}
        body = {"snapshot_id": digest[:40], "taken_at": row.get("taken_at", ""), "levels": [level]}
        if row.get("taken_at", "") != taken:
            parsed.wrong(number, "taken_at", "taken_at: all rows of a file must name one time.")
        elif row["sku"].upper() in seen:
            first = seen[row["sku"].upper()]
            parsed.wrong(number, "sku", f"sku: {row['sku']} stands in row {first} already.")
        elif _checked(parsed, number, "inventory.snapshot", body):
            levels.append(level)
        seen.setdefault(row["sku"].upper(), number)
    parsed.found.append(
        ("1", "inventory.snapshot", {"snapshot_id": digest[:40], "taken_at": taken, "levels": levels})
    )


_READERS = {
    "acks": _acks,
    "shipments": _shipments,
    "charges": _charges,
    "receipts": _receipts,
    "adjustments": _adjustments,
    "snapshot": _snapshot,
}


def _references(account: ThreePLAccount, rows: Rows) -> set[str]:
    asked = {row.get("reference", "").upper() for _, row in rows}
    return set(
        HandOff.objects.filter(account=account, reference__in=asked).values_list("reference", flat=True)
    )


def _known(parsed: Parsed, known: set[str], number: int, row: Mapping[str, str]) -> bool:
    reference = row.get("reference", "")
    if reference.upper() in known:
        return True
    parsed.wrong(number, "reference", f"reference: '{reference[:40]}' was never given to this 3PL.")
    return False


def _codes_known(kind: str, rows: Rows, parsed: Parsed) -> None:
    """Unknown SKUs of shipments, receipts and adjustments are refused here; a snapshot's are told when booked."""
    if kind not in ("shipments", "receipts", "adjustments"):
        return
    known = resolve_codes([row["sku"] for _, row in rows if row.get("sku")])
    for number, row in rows:
        if row.get("sku") and row["sku"] not in known:
            parsed.wrong(number, "sku", f"sku: there is no SKU '{row['sku'][:40]}'.")


def report(file: ThreePLFile) -> Iterator[str]:
    """The error report of a file that was not taken, as CSV."""
    return stream_csv(("row", "column", "problem"), file.problems)


# --- the watched folder ----------------------------------------------------------------------------

#: a file is whole when nothing was written to it for so many seconds, and much longer if its last line has no end
SETTLED, UNENDED = 5.0, 300.0


def watch() -> int:
    """Take what lies in the in folders, oldest first; returns how many files were looked at.

    A folder or file that cannot be used keeps back no other one.
    """
    looked = 0
    for account in ThreePLAccount.objects.filter(kind=ThreePLAccount.Kind.CSV).exclude(
        state=ThreePLAccount.State.SETUP
    ):
        try:
            place = folder(account, "in")
            waiting = [
                one for one in arrivals.arrived(place, ("",), settled=SETTLED, unended=UNENDED) if one.ready
            ]
        except OSError as error:
            log.warning("folder of 3PL %s: %s", account.code, error)
            continue
        for one in waiting[:200]:
            try:
                _take_from_folder(account, place, one)
            except (
                OSError
            ) as error:  # taken away meanwhile, or the disk refuses it: looked at again next time
                log.warning("file %r of 3PL %s: %s", one.name, account.code, error)
            looked += 1
    return looked


def _take_from_folder(account: ThreePLAccount, place: Path, one: Arrived) -> None:
    actor = task_actor(f"3pl {account.code}")
    data = arrivals.read(place, one, most=MAX_BYTES, settled=SETTLED)
    if data is None:
        return
    problems: list[Any] = []
    try:
        file = take(account.pk, one.name, data, actor=actor)
        problems = file.problems
    except Conflict:
        pass  # the same bytes again: done long ago
    except UserError as error:
        problems = [[0, error.field, error.message]]
        raise_item(
            "threepl_file", f"threepl:file:{account.pk}:", f"{account}: {one.title} cannot be read"[:200],
            detail=error.message, url=f"/threepl/{account.code}/", warehouse_code=account.warehouse.code,
        )  # fmt: skip
    target = folder(account, "failed" if problems else "done")
    name = arrivals.shelf_name(f"{now():%Y%m%dT%H%M%S%f}", one.name)
    if problems:
        lines = stream_csv(("row", "column", "problem"), problems)
        (target / f"{name}.errors.csv").write_text("".join(lines), encoding="utf-8", newline="")
    # moved last: a crash before this takes the file again, which changes nothing
    os.replace(place / one.name, target / name)


def find(account: ThreePLAccount, file_id: int) -> ThreePLFile:
    """One file of the account. Raises `NotFound`."""
    file = account.files.filter(pk=file_id).first()
    if file is None:
        raise NotFound("file: there is no such file.", field="file")
    return file
