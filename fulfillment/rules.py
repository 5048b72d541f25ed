"""The routing rules under work: one draft that several people see, tried on real orders, published as a version."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import F, Max

from fulfillment import routing_service
from fulfillment.models import RoutingDecision, RoutingDraft, RoutingPolicy
from fulfillment.routing.model import policy_from
from fulfillment.routing.planner import from_inputs, plan
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import now
from oms.core.errors import Conflict, UserError
from oms.orders.models import Order

Rules = list[dict[str, Any]]
#: orders a draft is tried on
TRIED = 100


def active_rules() -> Rules:
    """The rules in force."""
    found = RoutingPolicy.objects.filter(is_active=True).values_list("rules", flat=True).first()
    return [dict(rule) for rule in found or []]


def draft() -> RoutingDraft | None:
    """The rules under work, if there are some that differ from those in force."""
    return RoutingDraft.objects.filter(pk=RoutingDraft.ONLY).first()


class Current(NamedTuple):
    """What an editor starts from; `version` of the draft (0 = none yet) and `base`, the version in force, are sent
    back with a change."""

    rules: Rules
    version: int
    base: int


def current() -> Current:
    """The draft or, without one, the rules in force."""
    found, active = draft(), RoutingPolicy.objects.filter(is_active=True).first()
    rules = found.rules if found else active.rules if active else []
    return Current(
        [dict(rule) for rule in rules], found.version if found else 0, active.version if active else 0
    )


def _in_force() -> RoutingPolicy | None:
    """The rules in force; until this transaction ends no others come into force."""
    return RoutingPolicy.objects.select_for_update().filter(is_active=True).first()


def _outrun(active: RoutingPolicy | None, fix: str) -> Conflict:
    told = (
        f"version {active.version} was published by {active.published_by}"
        if active
        else "the rules were taken away"
    )
    return Conflict(f"rules: {told} meanwhile; {fix}", field="version")


_KEEP = "hold the draft against it, then keep the draft over it or discard the draft."


def _edit(
    work: Callable[[Rules], Rules], what: str, version: int, base: int | None, actor: Actor
) -> RoutingDraft:
    """One change of the draft; the first one makes it. `version` is the one the editor saw (0 = no draft yet), `base`
    the version in force that the editor saw; None replaces whatever is in force.

    Raises `Conflict` when somebody was quicker or the draft is over rules that are no longer in force, `UserError`
    naming the rule that is wrong.
    """
    with transaction.atomic():
        active = _in_force()
        now_in_force = active.version if active else 0
        if base is not None and base != now_in_force:
            raise _outrun(active, "look at it and make your change again.")
        if version == 0:
            _, made = RoutingDraft.objects.get_or_create(
                pk=RoutingDraft.ONLY,
                defaults={
                    "rules": active_rules(), "base": now_in_force, "changed_by": str(actor), "changed_at": now(),
                },
            )  # fmt: skip
            taken = made
        else:
            taken = bool(
                RoutingDraft.objects.filter(pk=RoutingDraft.ONLY, version=version).update(
                    version=F("version") + 1
                )
            )
        if not taken:
            raise Conflict(
                "rules: somebody changed the draft meanwhile; look at it and make your change again.",
                field="version",
            )
        found = RoutingDraft.objects.get(pk=RoutingDraft.ONLY)
        if base is not None and found.base != base:
            raise _outrun(active, _KEEP)
        before = [dict(rule) for rule in found.rules]
        after = work([dict(rule) for rule in before])
        try:
            policy_from(0, after)
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"rules: {error}.", field="rules") from error
        found.before, found.rules, found.base = before, after, now_in_force
        found.changed_by, found.changed_at = str(actor), now()
        found.save(update_fields=["base", "before", "rules", "changed_by", "changed_at"])
        record(actor, "routing.draft", found, after={"change": what})
    return found


def _at(rules: Sequence[Mapping[str, Any]], index: int) -> int:
    if not 0 <= index < len(rules):
        raise UserError("rule: there is no such rule in the draft.", field="rule")
    return index


def save(index: int | None, rule: dict[str, Any], *, version: int, base: int, actor: Actor) -> RoutingDraft:
    """Replace the rule at `index` (from 0), or add one at the end. Raises as every change does."""

    def work(rules: Rules) -> Rules:
        if index is None:
            return [*rules, rule]
        rules[_at(rules, index)] = rule
        return rules

    word = "changed" if index is not None else "added"
    return _edit(work, f"{rule.get('name')} {word}", version, base, actor)


def move(index: int, by: int, *, version: int, base: int, actor: Actor) -> RoutingDraft:
    """Move a rule up (-1) or down (+1); at the end of the list it stays."""

    def work(rules: Rules) -> Rules:
        rule = rules.pop(_at(rules, index))
        rules.insert(max(0, min(len(rules), index + by)), rule)
        return rules

    return _edit(work, f"rule {index + 1} moved {'up' if by < 0 else 'down'}", version, base, actor)


def switch(index: int, on: bool, *, version: int, base: int, actor: Actor) -> RoutingDraft:
    """Switch a rule on or off."""

    def work(rules: Rules) -> Rules:
        rules[_at(rules, index)]["active"] = on
        return rules

    return _edit(work, f"rule {index + 1} switched {'on' if on else 'off'}", version, base, actor)


def remove(index: int, *, version: int, base: int, actor: Actor) -> RoutingDraft:
    """Take a rule out of the draft."""

    def work(rules: Rules) -> Rules:
        del rules[_at(rules, index)]
        return rules

    return _edit(work, f"rule {index + 1} removed", version, base, actor)


def keep(*, version: int, base: int, actor: Actor) -> RoutingDraft:
    """Let the draft, as it is, stand over the rules that came into force since it was begun.

    Raises `Conflict` for another draft or other rules in force than the ones seen.
    """
    with transaction.atomic():
        active, found = _in_force(), draft()
        if base != (active.version if active else 0):
            raise _outrun(active, "look at it before you keep the draft.")
        if found is None or found.version != version:
            raise Conflict("rules: the draft changed meanwhile; look at it again.", field="version")
        before, found.base, found.version = found.base, base, version + 1
        found.save(update_fields=["base", "version"])
        record(actor, "routing.draft", found, before={"over": before}, after={"over": base})
    return found


def restore(policy_version: int, *, version: int, actor: Actor) -> RoutingDraft:
    """Bring the rules of an older version back as the draft, over whatever is in force."""
    found = RoutingPolicy.objects.filter(version=policy_version).first()
    if found is None:
        raise UserError(f"version: there is no version {policy_version}.", field="version")
    return _edit(
        lambda _: [dict(rule) for rule in found.rules],
        f"version {policy_version} brought back",
        version,
        None,
        actor,
    )


def undo(*, version: int, base: int, actor: Actor) -> RoutingDraft:
    """Take the last change of the draft back. Raises `Conflict` when there is none."""
    found = draft()
    if found is None or found.before is None:
        raise Conflict("rules: there is no change to take back.", field="rules")
    before = [dict(rule) for rule in found.before]
    return _edit(lambda _: before, "last change taken back", version, base, actor)


def discard(*, actor: Actor) -> None:
    """Forget the draft; the rules in force stay."""
    with transaction.atomic():
        found = draft()
        if found is not None:
            record(actor, "routing.discarded", found, before={"rules": len(found.rules)})
            found.delete()


def publish(*, version: int, note: str, actor: Actor) -> RoutingPolicy:
    """Put the draft in force as a new version. Raises `Conflict` for another draft than the one seen, or when other
    rules came into force (over the API) since it was begun: they would be lost unseen."""
    with transaction.atomic():
        active = _in_force()
        found = RoutingDraft.objects.select_for_update().filter(pk=RoutingDraft.ONLY).first()
        if found is None or found.version != version:
            raise Conflict(
                "rules: the draft changed meanwhile; look at it again before publishing.", field="version"
            )
        if found.base != (active.version if active else 0):
            raise _outrun(active, _KEEP)
        made = routing_service.publish([dict(rule) for rule in found.rules], actor=actor, note=note)
        found.delete()
    return made


@dataclass(frozen=True)
class Change:
    """One order that the draft would send otherwise."""

    order: Order
    before: str
    after: str
    why: str
    rules: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    tried: int
    changes: tuple[Change, ...]


def try_out(rules: Rules, *, orders: Any, limit: int = TRIED) -> Trial:
    """What `rules` would have decided on the newest decided orders among `orders` (a queryset the person may see),
    against the rules in force: both see what the real decision saw. Writes nothing.

    Raises `UserError` naming the rule that is wrong.
    """
    try:
        policy = policy_from(0, rules)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"rules: {error}.", field="rules") from error
    today = routing_service.active_policy()
    newest = (
        RoutingDecision.objects.filter(order__in=orders)
        .values("order")
        .annotate(last=Max("pk"))
        .order_by("-last")[:limit]
    )
    decisions = RoutingDecision.objects.filter(pk__in=[row["last"] for row in newest]).select_related(
        "order__channel"
    )
    changes, tried = [], 0
    for decision in decisions.order_by("-pk"):
        if "inputs" not in decision.trace:
            continue
        tried += 1
        seen, places = from_inputs(decision.trace["inputs"])
        was, would = plan(seen, places, today), plan(seen, places, policy)
        before, after = _told(was), _told(would)
        if before != after:
            matched = tuple(rule["name"] for rule in would.trace.get("rules", []) if rule["matched"])
            changes.append(Change(decision.order, before, after, would.summary, matched))
    return Trial(tried, tuple(changes))


def _told(decided: Any) -> str:
    if decided.outcome in ("routed", "partly"):
        units: dict[str, int] = {}
        for part in decided.parts:
            units[part.warehouse] = units.get(part.warehouse, 0) + part.quantity
        where = ", ".join(f"{code} ({count})" for code, count in sorted(units.items())) or "nothing to send"
        tags = f"; tags {', '.join(decided.tags)}" if decided.tags else ""
        return f"{where}{' in part' if decided.outcome == 'partly' else ''}{tags}"
    return {"held": f"On hold: {decided.hold}", "no_route": "No route", "blocked": "Not to be sent"}[
        decided.outcome
    ]
