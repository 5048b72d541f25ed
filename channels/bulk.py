"""Buffer, its mode, cap, percent and stop threshold of many listings: at once up to 100, above that as a job with a
result for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from channels import accounts, selectors, tuning
from channels.models import Listing
from inventory.bulk import AT_ONCE, MOST, Result
from oms.core.actor import Actor
from oms.core.errors import NotFound, UserError
from oms.core.jobs import Run, job_handler, start_job
from oms.core.models import Job, User
from oms.core.words import some

#: rule → (word on the screen, what the value is)
RULES: dict[str, tuple[str, str]] = {
    "buffer": ("Buffer", "units never shown"),
    "cap": ("Cap", "most units shown, empty for none"),
    "percent": ("Percent", "of what is left, rounded down"),
    "stop_at": ("Stop at", "shows 0 at or below"),
    "tuned": ("Tuned buffer, risk", "accepted chance of selling twice, empty for 0.001"),
    "fixed": ("Fixed buffer", "the present figure stays, no value"),
}


def checked(rule: str, value: str) -> int | float | None:
    """What a person typed; None = no cap, the usual risk. Raises `UserError` naming the field."""
    if rule not in RULES:
        raise UserError(f"rule: choose one of {', '.join(RULES)}.", field="rule")
    value = value.strip()
    if (rule in ("cap", "tuned") and not value) or rule == "fixed":
        return None
    if rule == "tuned":
        try:
            risk = float(value)
        except ValueError:
            risk = 0.0
        if not tuning.LOWEST_RISK <= risk <= tuning.HIGHEST_RISK:
            raise UserError(
                f"value: use a chance from {tuning.LOWEST_RISK} to {tuning.HIGHEST_RISK}, such as 0.001.",
                field="value",
            )
        return risk
    if not (value.isascii() and value.isdigit() and len(value) < 8):
        raise UserError(f"value: '{value}' is not a whole number of 0 or more.", field="value")
    if rule == "percent" and int(value) > 100:
        raise UserError("value: a percentage is 0 to 100.", field="value")
    return int(value)


def begin(
    rule: str, listing_ids: Sequence[int], value: float | None, *, actor: Actor, channel: str = ""
) -> Result | Job:
    """One rule for many listings; each is its own transaction, logged old → new, and its channel is told.

    Raises `UserError` above 100,000 listings.
    """
    if len(listing_ids) > MOST:
        raise UserError(
            f"{some(len(listing_ids), 'listing')} are too many at once: filter to at most {MOST:,}.",
            field="ids",
        )
    if len(listing_ids) > AT_ONCE:
        shown = "none" if value is None else str(value)
        title = f"{RULES[rule][0]} {shown} for {some(len(listing_ids), 'listing')}{f' of {channel}' if channel else ''}"
        params = {"rule": rule, "ids": list(listing_ids), "value": value, "user": actor.user_id}
        return start_job("channels.rules", title, params, actor, total=len(listing_ids))
    result = Result()
    for listing in Listing.objects.filter(pk__in=listing_ids).order_by("pk"):
        try:
            act(rule, listing, value, actor=actor)
            result.done += 1
        except UserError as error:
            result.skipped.append((listing.external_sku or listing.external_id, error.message))
    return result


def act(rule: str, listing: Listing, value: float | None, *, actor: Actor) -> str:
    """Set one rule of one listing; old → new."""
    if listing.fulfilment != Listing.Fulfilment.MERCHANT:
        raise UserError("the channel ships it: its figure is not ours.")
    if rule in ("tuned", "fixed"):
        fresh = tuning.set_mode(listing.pk, rule, risk=value, actor=actor)
        return f"buffer {listing.buffer} → {fresh.buffer} ({rule})"
    old = getattr(listing, rule)
    rules: dict[str, Any] = {rule: value}
    accounts.set_rules(listing.pk, actor=actor, clear_cap=rule == "cap" and value is None, **rules)
    if old == value:
        return f"{rule} is {_word(value)} already"
    return f"{rule} {_word(old)} → {_word(value)}"


def _word(value: float | None) -> str:
    return "none" if value is None else str(value)


@job_handler("channels.rules")
def run_job(run: Run) -> dict[str, Any]:
    """Each listing with its own result; who lost the right meanwhile is refused row by row."""
    rule, value = run.params["rule"], run.params["value"]
    user = User.objects.filter(pk=run.params["user"]).first()
    actor = Actor(run.actor.kind, run.actor.name, user.pk if user else None)
    names = dict(Listing.objects.filter(pk__in=run.params["ids"]).values_list("pk", "external_sku"))

    def one(listing_id: int) -> str:
        listing = selectors.visible_listings(user, "channels.manage").filter(pk=listing_id).first()
        if listing is None:
            raise NotFound("it is gone, or no longer yours to change.")
        return act(rule, listing, value, actor=actor)

    run.rows(run.params["ids"], one, subject=lambda pk: names.get(pk) or str(pk))
    return {}
