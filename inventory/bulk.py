"""One action on many SKUs of a warehouse: at once up to 100, above that as a job with a result per SKU. What is
worth more than its author may move alone waits for a second person as one batch."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from inventory import approvals, operations
from inventory.models import Bin, Sku, StockBatch, Warehouse
from inventory.selectors import Code
from oms.core.access import require
from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.errors import NotFound, UserError
from oms.core.jobs import Run, job_handler, start_job
from oms.core.models import Job, User
from oms.core.words import some

AT_ONCE = 100
MOST = 100_000

#: action → (word on the screen, what the value is)
ACTIONS: dict[str, tuple[str, str]] = {
    "safety": ("Safety stock", "units kept back from every channel"),
    "bin": ("Bin", "code of the bin, empty for none"),
    "add": ("Adjust by", "signed units"),
    "set": ("Adjust to", "counted units"),
}


@dataclass
class Result:
    done: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)  # (SKU, why)

    def sentence(self) -> str:
        text = f"{self.done:,} changed"
        if self.skipped:
            text += f", {len(self.skipped):,} skipped: {self.skipped[0][0]} – {self.skipped[0][1]}"
        return text


def checked(action: str, value: str, reason: str, warehouse: Warehouse) -> dict[str, Any]:
    """What a person chose, as the job keeps it. Raises `UserError` naming the field."""
    if action not in ACTIONS:
        raise UserError(f"action: choose one of {', '.join(ACTIONS)}.", field="action")
    value = value.strip()
    if action == "bin":
        if not value:
            return {"bin": None}
        found = Bin.objects.filter(warehouse=warehouse, code__iexact=value, is_active=True).first()
        if found is None:
            raise UserError(f"value: {warehouse} has no bin '{value}'.", field="value")
        return {"bin": found.pk}
    digits = value[1:] if action == "add" and value[:1] in "+-" else value
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise UserError(f"value: '{value}' is not a whole number.", field="value")
    if action in ("add", "set") and not reason.strip():
        raise UserError("reason: choose a reason.", field="reason")
    if action == "add" and not int(value):
        raise UserError("value: an adjustment changes at least one unit.", field="value")
    return {"units": int(value), "reason": reason.strip()}


def act(
    action: str,
    sku: Sku,
    warehouse: Warehouse,
    params: dict[str, Any],
    *,
    actor: Actor,
    key: str,
    batch: int | None = None,
) -> str:
    """Do one action on one SKU; a sentence of what happened. Raises `UserError` when it is skipped.

    `batch`: the approval that it is part of.
    """
    if sku.kind in (Sku.Kind.KIT, Sku.Kind.SERVICE):
        raise UserError("it has no stock of its own.")
    if action == "safety":
        operations.set_safety(sku.pk, warehouse.pk, params["units"], actor=actor)
        return f"safety {params['units']}"
    if action == "bin":
        operations.set_bin(sku.pk, warehouse.pk, params["bin"], actor=actor)
        return "bin set"
    step = f"{key}:{sku.pk}"
    if action == "add":
        outcome = operations.adjust(
            sku_id=sku.pk, warehouse_id=warehouse.pk, quantity=params["units"], reason=params["reason"], actor=actor,
            key=step, batch=batch,
        )  # fmt: skip
    else:
        outcome = operations.post_count(
            sku_id=sku.pk, warehouse_id=warehouse.pk, counted=params["units"],
            counted_at=_moment(params), actor=actor, key=step, note=params["reason"], batch=batch,
        )  # fmt: skip
    if outcome.request is not None:
        return "waits for a second person: above the limit"
    return ", ".join(f"{row.quantity:+d}" for row in outcome.rows) or "agrees with the books"


def _moment(params: dict[str, Any]) -> dt.datetime:
    """When the units were counted: when they were asked for, however long a second person took."""
    return dt.datetime.fromisoformat(params["counted_at"]) if "counted_at" in params else now()


def begin(
    action: str,
    sku_ids: Sequence[int],
    warehouse: Warehouse,
    params: dict[str, Any],
    *,
    actor: Actor,
    key: str,
) -> Result | Job | StockBatch:
    """The one door of the bulk editor: what is above the author's limit waits for a second person, up to 100 SKUs
    are done at once, more become a job. Raises `UserError` above 100,000 SKUs.
    """
    if len(sku_ids) > MOST:
        raise UserError(
            f"{some(len(sku_ids), 'SKU')} are too many at once: filter to at most {MOST:,}.", field="ids"
        )
    if action in ("add", "set"):
        params = {**params, "counted_at": now().isoformat()}
        total = approvals.foresee(
            (code, warehouse.code, warehouse.pk, params["units"], action == "add") for code in _codes(sku_ids)
        )
        if approvals.needs_second(total.counted(), actor.user_id):
            return approvals.ask(
                "stock.bulk",
                f"{ACTIONS[action][0]} {params['units']:+d} for {some(len(sku_ids), 'SKU')} in {warehouse}"
                if action == "add"
                else f"{ACTIONS[action][0]} {params['units']} for {some(len(sku_ids), 'SKU')} in {warehouse}",
                _job(action, sku_ids, warehouse, params, actor, key),
                total,
                actor=actor,
                key=key,
            )
    if len(sku_ids) > AT_ONCE:
        return start(action, sku_ids, warehouse, params, actor=actor, key=key)
    skus = list(Sku.objects.filter(pk__in=sku_ids).order_by("pk"))
    return run_now(action, skus, warehouse, params, actor=actor, key=key)


def _codes(sku_ids: Sequence[int]) -> Iterator[Code]:
    for start_at in range(0, len(sku_ids), 2000):
        found = Sku.objects.filter(pk__in=sku_ids[start_at : start_at + 2000]).order_by("pk")
        for pk, code, cost in found.values_list("pk", "code", "unit_cost"):
            yield Code(pk, code, unit_cost=cost)


def run_now(
    action: str, skus: Sequence[Sku], warehouse: Warehouse, params: dict[str, Any], *, actor: Actor, key: str
) -> Result:
    """The action on up to 100 SKUs; each is its own transaction, a refused one stops no other."""
    result = Result()
    for sku in skus:
        try:
            act(action, sku, warehouse, params, actor=actor, key=key)
            result.done += 1
        except UserError as error:
            result.skipped.append((sku.code, error.message))
    return result


def start(
    action: str,
    sku_ids: Sequence[int],
    warehouse: Warehouse,
    params: dict[str, Any],
    *,
    actor: Actor,
    key: str,
) -> Job:
    """The action as a background job."""
    title = f"{ACTIONS[action][0]} for {some(len(sku_ids), 'SKU')} in {warehouse}"
    wanted = _job(action, sku_ids, warehouse, params, actor, key)
    return start_job("stock.bulk", title, wanted, actor, total=len(sku_ids))


def _job(
    action: str, sku_ids: Sequence[int], warehouse: Warehouse, params: dict[str, Any], actor: Actor, key: str
) -> dict[str, Any]:
    return {
        "action": action, "ids": list(sku_ids), "warehouse": warehouse.pk, "params": params, "key": key,
        "user": actor.user_id,
    }  # fmt: skip


@approvals.batch_runner("stock.bulk")
def decided(batch: StockBatch, approve: bool) -> Job | None:
    """A second person has decided: the job begins, in its author's name."""
    if not approve:
        return None
    kind, _, name = batch.actor.partition(":")
    wanted = {**batch.params, "batch": batch.pk}
    actor = Actor(kind, name, batch.author_id)
    return start_job("stock.bulk", batch.title, wanted, actor, total=len(batch.params["ids"]))


@job_handler("stock.bulk")
def run_job(run: Run) -> dict[str, Any]:
    """Each SKU with its own result; a person who lost the right meanwhile is refused row by row."""
    action, params, key = run.params["action"], run.params["params"], run.params["key"]
    warehouse = Warehouse.objects.get(pk=run.params["warehouse"])
    user = User.objects.filter(pk=run.params["user"]).first()
    actor = Actor(run.actor.kind, run.actor.name, user.pk if user else None)

    def one(sku_id: int) -> str:
        require(user, "stock.adjust", warehouse.code)
        sku = Sku.objects.filter(pk=sku_id).first()
        if sku is None:
            raise NotFound("it is gone.")
        return act(action, sku, warehouse, params, actor=actor, key=key, batch=run.params.get("batch"))

    codes = dict(Sku.objects.filter(pk__in=run.params["ids"]).values_list("pk", "code"))
    run.rows(run.params["ids"], one, subject=lambda sku_id: codes.get(sku_id, str(sku_id)))
    return {}
