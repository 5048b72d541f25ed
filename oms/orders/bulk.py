"""One action on many orders: at once up to 100, above that as a job with progress and a result per order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.http import QueryDict

from oms.core.actor import Actor
from oms.core.errors import UserError
from oms.core.jobs import Run, job_handler, start_job
from oms.core.models import Job, User
from oms.core.words import some
from oms.orders import selectors, services
from oms.orders.models import Hold, Order

AT_ONCE = 100
#: skipped orders that the sentence names
NAMED = 5
MOST = 10_000

#: action → (right it needs, word for the result, title of the job)
ACTIONS: dict[str, tuple[str, str, str]] = {
    "hold": ("orders.hold", "held", "Hold"),
    "release": ("orders.release", "released", "Release"),
    "route": ("orders.route", "sent to routing", "Route"),
    "tag": ("orders.edit", "tagged", "Tag"),
}


@dataclass
class Result:
    done: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)  # (order number, why)

    def sentence(self, word: str) -> str:
        text = f"{self.done:,} {word}"
        if not self.skipped:
            return text
        named = "; ".join(
            f"{number} – {why.removeprefix(f'{number}: ')}" for number, why in self.skipped[:NAMED]
        )
        more = f"; and {len(self.skipped) - NAMED:,} more" if len(self.skipped) > NAMED else ""
        return f"{text}, {len(self.skipped):,} skipped: {named}{more}"


def chosen_ids(principal: Any, form: QueryDict) -> list[int]:
    """The orders that a list's bulk form means: the ticked ones, or all that match its filters. At most one more than
    `MOST`. Raises `UserError` when none is left of those the person may see.
    """
    orders = selectors.visible(principal)
    if form.get("all"):
        orders, _ = selectors.queue(orders, selectors.chosen(QueryDict(form.get("query", ""))))
        ids = list(orders.order_by("pk").values_list("pk", flat=True)[: MOST + 1])
    else:
        wanted = [int(value) for value in form.getlist("ids") if value.isdigit() and len(value) < 18]
        ids = list(orders.filter(pk__in=wanted[: MOST + 1]).order_by("pk").values_list("pk", flat=True))
    if not ids:
        raise UserError("orders: choose at least one.", field="ids")
    return ids


def act(action: str, order: Order, params: dict[str, Any], *, actor: Actor, principal: Any) -> str:
    """Do one action on one order; a sentence of what happened. Raises `UserError` when it is skipped."""
    if action == "hold":
        services.place_hold(order.pk, Hold.Reason.PERSON, actor=actor, note=str(params.get("note", "")))
        return "held"
    if action == "release":
        released = services.release_holds(order.pk, actor=actor, principal=principal)
        if not released:
            raise UserError("it is not on hold.")
        return f"{len(released)} hold(s) released"
    if action == "route":
        services.request_route(order.pk, actor=actor)
        return "sent to routing"
    if action == "tag":
        tag = str(params.get("tag", "")).strip()
        if not tag:
            raise UserError("tag: give a word.", field="tag")
        services.set_tags(order.pk, [*order.tags, tag], actor=actor)
        return f"tagged {tag}"
    raise UserError(f"action: '{action}' is unknown.", field="action")


def run_now(
    action: str, orders: Sequence[Order], params: dict[str, Any], *, actor: Actor, principal: Any
) -> Result:
    """The action on up to 100 orders; each is its own transaction, a refused one stops no other."""
    result = Result()
    for order in orders:
        try:
            act(action, order, params, actor=actor, principal=principal)
            result.done += 1
        except UserError as error:
            result.skipped.append((order.number, error.message))
    return result


def start(action: str, order_ids: Sequence[int], params: dict[str, Any], *, actor: Actor) -> Job:
    """The action as a background job. Raises `UserError` above 10,000 orders."""
    if len(order_ids) > MOST:
        raise UserError(
            f"{some(len(order_ids), 'order')} are too many at once: filter to at most {MOST:,}.", field="ids"
        )
    with transaction.atomic():
        return start_job(
            "orders.bulk",
            f"{ACTIONS[action][2]} {some(len(order_ids), 'order')}",
            {"action": action, "ids": list(order_ids), "params": params, "user": actor.user_id},
            actor,
            total=len(order_ids),
        )


@job_handler("orders.bulk")
def run_job(run: Run) -> dict[str, Any]:
    """Orders that the person may no longer see are refused row by row."""
    action, params = run.params["action"], run.params["params"]
    user = User.objects.filter(pk=run.params["user"]).first()
    actor = Actor(run.actor.kind, run.actor.name, user.pk if user else None)

    def one(order_id: int) -> str:
        order = selectors.get_visible(user, order_id, ACTIONS[action][0])
        return act(action, order, params, actor=actor, principal=user)

    run.rows(run.params["ids"], one, subject=lambda order_id: f"order {order_id}")
    return {}
