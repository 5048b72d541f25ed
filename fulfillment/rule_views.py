"""Screens of the routing rules: the list under work, the form of one rule, the trial on real orders, versions."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from fulfillment import rules
from fulfillment.models import RoutingDecision, RoutingPolicy
from fulfillment.routing import builder
from inventory.models import Warehouse
from oms.core.access import can, scope_of
from oms.core.actor import actor_of
from oms.core.errors import NotFound, UserError
from oms.core.screens import is_fragment, page, screen, toast
from oms.orders import selectors
from oms.orders.models import SalesChannel


def _rules(request: HttpRequest, focus: tuple[int, str] | None = None) -> dict[str, Any]:
    found, version, base = rules.current()
    draft = rules.draft() if version else None
    active = RoutingPolicy.objects.filter(is_active=True).first()
    return {
        "active": active,
        "draft": draft,
        "version": version,
        "base": base,
        "outrun": draft is not None and draft.base != base,
        "may_publish": can(request.user, "orders.route"),
        "rules": [
            {
                "index": index,
                "name": rule.get("name") or f"Rule {index + 1}",
                "when": builder.sentence(rule.get("when") or {}),
                "then": builder.effects(rule.get("then") or {}),
                "stop": rule.get("stop"),
                "on": rule.get("active", True),
                "first": index == 0,
                "last": index == len(found) - 1,
                "focus": focus[1] if focus and focus[0] == index else "",
            }
            for index, rule in enumerate(found)
        ],
    }


@screen("orders.view")
@require_GET
def routing(request: HttpRequest) -> HttpResponse:
    """The rules from top to bottom, what they decided lately, and their versions."""
    scope = scope_of(request.user, "orders.view")
    decisions = RoutingDecision.objects.filter(scope.q(channel="order__channel__code")).select_related(
        "order__channel"
    )[:30]
    context = {"decisions": decisions, "versions": RoutingPolicy.objects.all()[:20]}
    return page(request, "fulfillment/routing.html", _rules(request) | context)


@screen("orders.route")
@require_POST
def rules_act(request: HttpRequest) -> HttpResponse:
    """One change of the draft: move, switch, remove, take back, keep, discard, restore, publish."""
    word, _, place = request.POST.get("do", "").partition(":")
    index = int(place) if place.isascii() and place.isdigit() and len(place) < 6 else 0
    version, base = _seen(request, "version"), _seen(request, "base")
    actor = actor_of(request.user)
    focus: tuple[int, str] | None = None
    text = ""
    if word in ("up", "down"):
        by = -1 if word == "up" else 1
        made = rules.move(index, by, version=version, base=base, actor=actor)
        index = max(0, min(len(made.rules) - 1, index + by))
        edge = index == 0 if word == "up" else index == len(made.rules) - 1
        focus = (index, ("down" if word == "up" else "up") if edge else word)
        text = f"{made.rules[index].get('name')} is number {index + 1} now."
    elif word in ("on", "off"):
        rules.switch(index, word == "on", version=version, base=base, actor=actor)
        focus = (index, "switch")
    elif word == "remove":
        rules.remove(index, version=version, base=base, actor=actor)
        text = "Removed from the draft."
    elif word == "undo":
        rules.undo(version=version, base=base, actor=actor)
        text = "The last change is taken back."
    elif word == "keep":
        rules.keep(version=version, base=base, actor=actor)
        text = f"The draft stands over version {base} now."
    elif word == "discard":
        rules.discard(actor=actor)
        text = "The draft is gone; the rules in force stay."
    elif word == "restore":
        # whatever stands in the draft: the change before can be taken back
        rules.restore(index, version=rules.current().version, actor=actor)
        text = f"Version {index} is the draft now; publish it to put it in force."
    elif word == "publish":
        policy = rules.publish(version=version, note=request.POST.get("note", "").strip(), actor=actor)
        text = f"Version {policy.version} is in force."
    else:
        raise UserError(
            "do: choose up, down, on, off, remove, undo, keep, discard, restore or publish.", field="do"
        )
    if is_fragment(request):
        answer = page(request, "fulfillment/_rules.html", _rules(request, focus))
        return toast(answer, text) if text else answer
    if text:
        messages.success(request, text)
    return redirect("fulfillment:routing")


def _seen(request: HttpRequest, name: str) -> int:
    text = request.POST.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 9):
        raise UserError(f"{name}: the page is out of date; load it again.", field=name)
    return int(text)


@screen("orders.route")
@require_http_methods(["GET", "POST"])
def rule(request: HttpRequest, index: int | None = None) -> HttpResponse:
    """One rule as rows; every button works without a script, with one only the form is swapped."""
    found, version, base = rules.current()
    if index is not None and index >= len(found):
        raise NotFound("rule: there is no such rule in the draft.")
    stored = found[index] if index is not None else None
    form = builder.read(stored) if stored is not None else builder.Draft(groups=[builder.Group()])
    errors: list[str] = []
    field = ""
    if request.method == "POST" and form is not None:
        version, base = _seen(request, "version"), _seen(request, "base")
        form = builder.posted(request.POST)
        what = request.POST.get("do", "")
        if what == "save":
            try:
                codes = list(Warehouse.objects.values_list("code", flat=True))
                made = builder.rule_of(form, places=codes, kept=stored)
                rules.save(index, made, version=version, base=base, actor=actor_of(request.user))
            except UserError as error:
                errors, field = [error.message], error.field or ""
            else:
                messages.success(request, f"“{made['name']}” is in the draft. Try it, then publish.")
                return _leave(request)
        else:
            form = builder.change(form, what)
    context = {
        "index": index,
        "version": version,
        "base": base,
        "form": form,
        "stored": stored,
        "sentence": builder.sentence((stored or {}).get("when") or {}),
        "errors": errors,
        "field": field,
        "fields": builder.FIELDS,
        "ranks": [
            (number, form.rank[number - 1] if form and len(form.rank) >= number else "")
            for number in range(1, 5)
        ],
        "rankings": list(builder.RANK_WORDS.items()),
        "places": _places(form),
        "channels": list(SalesChannel.objects.filter(is_active=True).values_list("code", flat=True)),
        "alternatives": builder.effects({"try": (stored or {}).get("then", {}).get("try")})
        if (stored or {}).get("then", {}).get("try")
        else [],
    }
    status = 422 if errors else 200
    return page(request, "fulfillment/rule.html", context, fragment="fulfillment/_rule.html", status=status)


def _places(form: builder.Draft | None) -> list[dict[str, Any]]:
    """Every warehouse with what the rule says of it; rules hold for the whole company, whatever places a person has."""
    form = form or builder.Draft()
    found = []
    for place in Warehouse.objects.filter(is_active=True).order_by("priority", "code"):
        use = "only" if place.code in form.only else "exclude" if place.code in form.exclude else ""
        prefer = form.prefer.index(place.code) + 1 if place.code in form.prefer else ""
        found.append({"code": place.code, "name": place.name, "use": use, "prefer": prefer})
    return found


def _leave(request: HttpRequest) -> HttpResponse:
    to = reverse("fulfillment:routing")
    if is_fragment(request):
        response = HttpResponse(status=204)
        response["HX-Redirect"] = to
        return response
    return redirect(to)


@screen("orders.view")
@require_GET
def rules_try(request: HttpRequest) -> HttpResponse:
    """What the draft would have decided on the last orders; nothing is written."""
    trial = rules.try_out(rules.current().rules, orders=selectors.visible(request.user))
    return page(
        request, "fulfillment/rules_try.html", {"trial": trial, "draft": rules.draft()},
        fragment="fulfillment/_trial.html",
    )  # fmt: skip
