"""What people set on a warehouse: address, working hours with cut-off, days it is closed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from zoneinfo import available_timezones

from django.db import transaction

from inventory.models import Warehouse, WarehouseClosure, WarehouseHours
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.errors import Conflict, NotFound, UserError

FACTS = (
    "name", "company", "address1", "address2", "city", "region", "postal_code", "country", "phone", "time_zone",
    "priority", "capacity_per_day", "handling_cost", "is_active",
)  # fmt: skip


def _warehouse(code: str) -> Warehouse:
    found = Warehouse.objects.select_for_update(of=("self",)).filter(code=code).first()
    if found is None:
        raise NotFound("warehouse: there is no such warehouse.", field="warehouse")
    return found


def set_facts(code: str, values: Mapping[str, Any], *, actor: Actor) -> Warehouse:
    """Change name, address, zone, rank and limits. Costs are in the warehouse's currency. Raises `UserError`."""
    zone = str(values.get("time_zone", "UTC"))
    if zone not in available_timezones():
        raise UserError(f"time zone: '{zone}' is unknown; write it like America/New_York.", field="time_zone")
    if not str(values.get("name", "x")).strip():
        raise UserError("name: it may not be empty.", field="name")
    if Decimal(values.get("handling_cost") or 0) < 0:
        raise UserError("handling cost: it may not be negative.", field="handling_cost")
    with transaction.atomic():
        place = _warehouse(code)
        changed = {
            name: values[name] for name in FACTS if name in values and getattr(place, name) != values[name]
        }
        if changed:
            before = {name: getattr(place, name) for name in changed}
            for name, value in changed.items():
                setattr(place, name, value)
            place.save(update_fields=list(changed))
            record(actor, "warehouse.changed", place, before=before, after=changed)
    return place


def set_hours(code: str, cut_offs: Mapping[int, dt.time], *, actor: Actor) -> None:
    """The working week: weekday (0 = Monday) → local cut-off; a day that is not named is closed.

    No row at all means Monday to Friday until 15:00 (`calendar.DEFAULT_CUT_OFFS`), so at least one day is asked for.
    """
    if not cut_offs:
        raise UserError("hours: name at least one working day.", field="hours")
    if any(not 0 <= day <= 6 for day in cut_offs):
        raise UserError("hours: a weekday is 0 (Monday) to 6 (Sunday).", field="hours")
    with transaction.atomic():
        place = _warehouse(code)
        before = {str(row.weekday): row.cut_off.isoformat("minutes") for row in place.hours.all()}
        after = {str(day): cut_off.isoformat("minutes") for day, cut_off in sorted(cut_offs.items())}
        if before == after:
            return
        place.hours.all().delete()
        WarehouseHours.objects.bulk_create(
            WarehouseHours(warehouse=place, weekday=day, cut_off=cut_off) for day, cut_off in cut_offs.items()
        )
        record(actor, "warehouse.hours", place, before=before, after=after)


def close_days(code: str, first: dt.date, last: dt.date, reason: str, *, actor: Actor) -> WarehouseClosure:
    """Nothing leaves on these local days, both ends included. Raises `UserError`, `Conflict` for an overlap."""
    if last < first:
        raise UserError("last day: it lies before the first.", field="last_day")
    if not reason.strip():
        raise UserError("reason: say why it is closed.", field="reason")
    with transaction.atomic():
        place = _warehouse(code)
        if place.closures.filter(first_day__lte=last, last_day__gte=first).exists():
            raise Conflict("days: the warehouse is closed on some of them already.", field="first_day")
        made = WarehouseClosure.objects.create(
            warehouse=place, first_day=first, last_day=last, reason=reason.strip()[:120]
        )
        record(actor, "warehouse.closed", place, after={"first": first, "last": last, "reason": made.reason})
    return made


def open_days(code: str, closure_id: int, *, actor: Actor) -> None:
    """Take a closure back. Raises `NotFound`."""
    with transaction.atomic():
        place = _warehouse(code)
        found = place.closures.filter(pk=closure_id).first()
        if found is None:
            raise NotFound("closure: there is no such closure.", field="closure")
        before = {"first": found.first_day, "last": found.last_day, "reason": found.reason}
        found.delete()
        record(actor, "warehouse.opened", place, before=before)
