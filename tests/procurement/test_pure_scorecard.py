"""Supplier lead time and rates, by hand and on two published purchasing histories."""

import csv
import gzip
import json
from collections import defaultdict
from datetime import date, datetime
from decimal import Decimal

import pytest

from procurement.scorecard import PurchaseResult, lead_time, score

TODAY = date(2026, 11, 23)


def received(ordered=10, good=10, rejected=0, promised=date(2026, 10, 20), on=date(2026, 10, 18)):
    return PurchaseResult(ordered, good, rejected, promised, on)


def test_lead_time_is_measured_from_five_receipts_on():
    few = lead_time([20, 22, 24, 26], 14)
    assert (few.days, few.is_measured, few.measured, few.receipts) == (14, False, 23.0, 4)
    enough = lead_time([20, 22, 24, 26, 28], 14)
    assert (enough.days, enough.is_measured, enough.stated, enough.receipts) == (24.0, True, 14, 5)
    assert enough.sd == pytest.approx(10**0.5)


def test_receipt_before_its_order_is_left_out():
    assert not lead_time([-292, 20, 22, 24, 26], 14).is_measured
    assert lead_time([-292, 20, 20, 20, 20, 20], 14).days == 20.0


def test_nothing_received_is_nothing_measured():
    lead = lead_time([-1], 14)
    assert (lead.days, lead.measured, lead.receipts) == (14, None, 0)


def test_score_counts_late_short_and_defect():
    lines = [
        received(),
        received(on=date(2026, 10, 20)),  # the promised day itself is on time
        received(on=date(2026, 10, 21), good=8),
        received(good=12, rejected=3),  # over-receipt does not lift the fill rate
        PurchaseResult(10, promised_on=date(2026, 11, 22)),  # open and overdue: late now
        PurchaseResult(10, promised_on=TODAY),  # due today: not late yet
    ]
    result = score(lines, today=TODAY)
    assert (result.finished, result.overdue_open, result.enough_data) == (4, 1, True)
    assert result.on_time == Decimal(3) / 5
    assert result.fill == Decimal(38) / 40
    assert result.defects == Decimal(3) / 40


def test_too_few_lines_are_no_hundred_percent():
    result = score([received(), received()], today=TODAY)
    assert not result.enough_data
    assert (result.on_time, result.fill, result.defects) == (None, None, None)


def test_rates_without_promises_or_receipts_are_unknown_not_perfect():
    result = score([received(promised=None, good=0)] * 3, today=TODAY)
    assert (result.on_time, result.fill, result.defects) == (None, Decimal(0), None)


def _day(text, *formats):
    for pattern in formats:
        try:
            return datetime.strptime(text, pattern).date()
        except ValueError:
            continue
    return None


def test_scms_delivery_history(shared_dir):
    """USAID SCMS history until 2010: lead time, punctuality and the vendors' means and deviations."""
    expected = json.loads((shared_dir / "data/expected/scms_shared.json").read_text())
    lines, by_vendor = [], defaultdict(list)
    with gzip.open(
        shared_dir / "data/procurement/scms_shipments_to_2010.csv.gz", "rt", encoding="utf-8"
    ) as rows:
        for row in csv.DictReader(rows):
            sent = _day(row["PO Sent to Vendor Date"], "%m/%d/%y", "%d-%b-%y")
            due = _day(row["Scheduled Delivery Date"], "%d-%b-%y")
            arrived = _day(row["Delivered to Client Date"], "%d-%b-%y")
            units = int(row["Line Item Quantity"])
            lines.append(PurchaseResult(units, units, 0, due, arrived))
            if sent and arrived:
                by_vendor[row["Vendor"]].append((arrived - sent).days)
    days = [d for vendor in by_vendor.values() for d in vendor]
    want = expected["lead_time_days"]
    assert len(lines) == expected["rows"] and len(days) == want["n"]
    assert sum(d < 0 for d in days) == expected["negative_lead_times"]
    result = score(lines, today=date(2011, 1, 1))
    assert result.on_time is not None and round(result.on_time, 6) == Decimal(str(expected["on_time_rate"]))
    for vendor, _, mean, sd, count in expected["vendor_lead_time_top10_by_rows"]:
        usable = by_vendor[vendor]
        assert len(usable) == count
        if count and min(usable) >= 0:
            measured = lead_time(usable, 30)
            assert (round(measured.days, 4), round(measured.sd, 4)) == (mean, sd)


def test_adventureworks_receipts(shared_dir):
    """Microsoft sample database: rejection rate and short lines."""
    expected = json.loads((shared_dir / "data/expected/adventureworks_purchasing.json").read_text())
    folder = shared_dir / "data/procurement/adventureworks"
    with (folder / "PurchaseOrderDetail.csv").open(encoding="utf-8") as rows:
        lines = [
            PurchaseResult(
                int(row["OrderQty"]), int(Decimal(row["ReceivedQty"])), int(Decimal(row["RejectedQty"])),
                ended_on=date.fromisoformat(row["ModifiedDate"][:10]),
            )
            for row in csv.DictReader(rows)
        ]  # fmt: skip
    assert len(lines) == expected["po_lines"]
    result = score(lines, today=TODAY)
    assert result.defects is not None and round(result.defects, 6) == Decimal(str(expected["rejection_rate"]))
    assert sum(line.received < line.ordered for line in lines) == expected["short_lines"]
