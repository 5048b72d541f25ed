"""The address of an order, changed by a person. What the channel told is kept beside it and can be taken back.

Buyer data never goes onto the timeline: it names the changed fields, and shows region, postal area and country before
and after. The floor above asks here, once it has seen that no label is bought (`fulfillment.addresses`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from inventory.locking import require_transaction
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.errors import Conflict, UserError
from oms.orders import states, timeline, upkeep
from oms.orders.drafts import ContactDraft
from oms.orders.models import Order, OrderContact
from oms.orders.pii import POSTAL_KEEP
from oms.orders.validation import COUNTRIES, clean_contact, short_name

#: what a postal code looks like where labels are refused for a wrong one
POSTAL: Mapping[str, tuple[str, str]] = {
    "US": (r"\d{5}(-\d{4})?", "five digits, such as 89502, or nine with a dash"),
    "CA": (r"[ABCEGHJ-NPRSTVXY]\d[A-Z] ?\d[A-Z]\d", "letters and digits such as K1A 0B1"),
    "GB": (r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}", "such as SW1A 1AA"),
    "DE": (r"\d{5}", "five digits"),
    "FR": (r"\d{5}", "five digits"),
    "IT": (r"\d{5}", "five digits"),
    "ES": (r"\d{5}", "five digits"),
    "AU": (r"\d{4}", "four digits"),
    "NL": (r"\d{4} ?[A-Z]{2}", "such as 1012 AB"),
}
#: countries whose carriers want the state
WITH_REGION: Mapping[str, frozenset[str]] = {
    "US": frozenset(
        "AL AK AZ AR CA CO CT DE DC FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ NM NY NC ND OH "
        "OK OR PA RI SC SD TN TX UT VT VA WA WV WI WY AS GU MP PR VI AA AE AP".split()
    ),
    "CA": frozenset("AB BC MB NB NL NS NT NU ON PE QC SK YT".split()),
}
_WORDS = {
    "name": "name", "company": "company", "email": "e-mail", "phone": "phone", "address1": "street",
    "address2": "street, second line", "address3": "street, third line", "city": "city", "region": "region",
    "postal_code": "postal code", "country": "country", "note": "note", "residential": "kind of address",
}  # fmt: skip


def _shown(name: str, data: Mapping[str, Any]) -> str:
    """What the timeline may keep for ever of a field: what stays when the buyer's data is erased."""
    value = str(data.get(name) or "")
    if name == "postal_code":
        return value[:POSTAL_KEEP]
    return value if name in ("region", "country") else ""


def check(contact: ContactDraft) -> ContactDraft:
    """The address as it may go on a label: clean, complete, of the right shape for its country (pure).

    Raises `UserError` naming the field and what is expected there.
    """
    found = clean_contact(contact)
    for name in ("address1", "city", "country"):
        if not getattr(found, name):
            raise UserError(f"{_WORDS[name]}: fill it in, a label needs it.", field=name)
    if not (found.name or found.company):
        raise UserError("name: give the name of a person or a company.", field="name")
    if found.country not in COUNTRIES:
        raise UserError(
            f"country: '{found.country}' is no country; use its two letters, such as US or DE.",
            field="country",
        )
    found = replace(
        found,
        postal_code=found.postal_code.upper(),
        region=found.region.upper() if found.country in WITH_REGION else found.region,
    )
    shape = POSTAL.get(found.country)
    if shape and not re.fullmatch(shape[0], found.postal_code):
        raise UserError(
            f"postal code: '{found.postal_code[:20]}' does not fit {found.country}: {shape[1]}.",
            field="postal_code",
        )
    known = WITH_REGION.get(found.country)
    if known and found.region not in known:
        raise UserError(
            f"region: '{found.region[:20]}' is no state of {found.country}; use its two letters, such as "
            f"{'NV' if found.country == 'US' else 'ON'}.",
            field="region",
        )
    if len(found.postal_code) > 20 or len(found.region) > 40 or len(found.city) > 80:
        raise UserError(
            "address: the city takes 80 characters, the region 40, the postal code 20.", field="city"
        )
    return found


def current(order: Order) -> ContactDraft:
    """The stored address, empty where the channel told none."""
    contact = OrderContact.objects.filter(order=order, erased_at__isnull=True).first()
    data = contact.data if contact else {}
    names = {field.name for field in fields(ContactDraft)}
    return ContactDraft(**{name: value for name, value in data.items() if name in names})


def write(order: Order, contact: ContactDraft, *, actor: Actor, back: bool = False) -> Order:
    """Store a checked address on a locked order, with its line on the timeline and its audit entry.

    Holds for a wrong address stay: a person releases them after looking. `back` says that these are the channel's own
    words again. Raises `Conflict` when nothing is left to ship, the buyer's data is erased, or nothing changes.
    """
    require_transaction()
    if order.state not in states.LIVE:
        raise Conflict(
            f"{order.number} is {order.get_state_display().lower()}: its address no longer matters.",
            field="state",
        )
    row = OrderContact.objects.filter(order=order).first()
    if row is not None and row.erased_at is not None:
        raise Conflict(
            f"{order.number}: the buyer's data was erased by the channel's privacy rules.", field="order"
        )
    before: dict[str, Any] = dict(row.data) if row else {}
    after = {name: value for name, value in asdict(contact).items() if value != ""}
    changed = [
        name for name in _WORDS if (before.get(name) or "") != (after.get(name) or "") and name != "note"
    ]
    if not changed:
        raise Conflict(f"{order.number}: this is the address it has already.", field="address1")
    told = None if back else ((row.told or before) if row else {})
    OrderContact.objects.update_or_create(order=order, defaults={"data": after, "told": told})
    order.ship_country, order.ship_region = contact.country, contact.region[:40]
    order.ship_postal, order.ship_city = contact.postal_code[:20], contact.city[:80]
    order.ship_name = short_name(contact.name or contact.company)
    order.residential = contact.residential
    order.save(
        update_fields=[
            "ship_country", "ship_region", "ship_postal", "ship_city", "ship_name", "residential",
        ]
    )  # fmt: skip
    pairs = {name: (_shown(name, before), _shown(name, after)) for name in changed}
    shown = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    words = ", ".join(
        f"{_WORDS[name]} {shown[name][0] or 'none'} → {shown[name][1] or 'none'}"
        if name in shown
        else _WORDS[name]
        for name in changed
    )
    text = f"{'Address taken back to what the channel told' if back else 'Address changed'}: {words}"
    timeline.add(order.pk, "address", text, actor=actor, data={"changed": changed, "shown": shown})
    record(
        actor, "order.address", order,
        before={name: pair[0] for name, pair in shown.items()} | {"fields": ""},
        after={name: pair[1] for name, pair in shown.items()} | {"fields": ", ".join(changed)},
    )  # fmt: skip
    upkeep.settle(order, actor=actor, changed=["address"], reroute=True)
    return order


def as_told(order: Order) -> ContactDraft:
    """What the channel told before a person changed it. Raises `Conflict` when nobody did."""
    row = OrderContact.objects.filter(order=order, erased_at__isnull=True).first()
    if row is None or not row.told:
        raise Conflict(f"{order.number}: the address is the channel's own.", field="address1")
    names = {field.name for field in fields(ContactDraft)}
    return ContactDraft(**{name: value for name, value in row.told.items() if name in names})
