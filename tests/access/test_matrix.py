"""Every address × every role × own and foreign place.

What a screen needs is read from `@screen(…)`, what a resource of the REST interface needs from `required_scopes`; only
rights that a view asks for beyond that stand here, in `FINER`. A new address with an argument wants one line in
`places.objects()`; the failure says which.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django_otp.plugins.otp_totp.models import TOTPDevice
from rest_framework.test import APIClient

from fulfillment.views import STEPS
from oms.core import tokens
from oms.core.actor import SYSTEM
from oms.core.api.auth import TokenThrottle
from oms.core.models import User
from oms.core.roles import PERMISSIONS, ROLES, SCOPES, permissions_of
from tests.access import places
from tests.factories import make_user

pytestmark = [pytest.mark.django_db, pytest.mark.once]

#: addresses that ask nobody who they are, and why
OPEN = {
    "login": "the way in",
    "second-factor": "the second half of it; knows its person by the session",
    "logout": "the way out",
    "hooks:receive": "channels sign what they send",
    "threepl_hooks:receive": "3PLs sign what they send",
    "schema": "describes, shows nothing",
    "api-docs": "describes, shows nothing",
    "healthz": "for the machine that watches",
    "readyz": "for the machine that watches",
    "metrics": "for the machine that watches; refused from elsewhere",
}
#: rights asked for beyond the decorator or the scope: one of them is enough
FINER: dict[str, tuple[str, ...]] = {
    "control:settings": ("settings.manage", "users.manage"),
    "procurement:step:receive": ("purchasing.receive",),
    "procurement:step": ("purchasing.edit",),
    "returns:step:refund": ("returns.refund",),
    "returns:step:paid": ("returns.refund",),
    "returns:step": ("returns.work",),
    **{f"fulfillment:step:{step}": (right,) for step, right in STEPS.items()},
    "api:reservation-detail": ("stock.adjust",),
    "api:reservation-extend": ("stock.adjust",),
    "api:stock-adjust-many": ("stock.adjust",),
    "api:count-submit": ("stock.work",),
    "api:count-cancel": ("stock.work",),
    "api:count-accept": ("stock.adjust",),
    "api:count-recount": ("stock.adjust",),
    **{
        f"api:transfer-{step}": ("stock.transfer",)
        for step in ("ship", "receive", "settle", "reschedule", "cancel")
    },
    "api:sku-valuation": ("settings.manage",),
    "api:sku-merge": ("settings.manage",),
    **{
        f"api:{kind}-{step}": ("stock.adjust",)
        for kind in ("adjustment", "stock-batch")
        for step in ("decide", "withdraw")
    },
    "api:lot-block": ("stock.adjust",),
    "api:lot-free": ("stock.adjust",),
    "api:ring-fence-end": ("stock.adjust",),
    "api:order-part-split": ("orders.route",),
    "api:order-part-rejoin": ("orders.route",),
    "api:order-part-address": ("orders.edit",),
    "api:shipment-claim": ("shipping.work",),
    "api:shipment-scan": ("shipping.work",),
    "api:shipment-pack": ("shipping.work",),
    "api:shipment-ship": ("shipping.work",),
    "api:shipment-pick-all": ("shipping.work",),
    "api:shipment-short-pick": ("shipping.work",),
    "api:shipment-rates": ("shipping.label",),
    "api:shipment-choose": ("shipping.label",),
    "api:shipment-void-label": ("shipping.label",),
    "api:shipment-label-bought": ("shipping.label",),
    "api:shipment-enter-label": ("shipping.label",),
    "api:shipment-track": ("shipping.work",),
    "api:shipment-label-not-bought": ("shipping.label",),
    "api:routing-policy-list": ("orders.route",),
    "api:routing-decision-list": ("orders.route",),
    "api:shipment-label": ("shipping.label",),
    "api:return-refund": ("returns.refund",),
    "api:return-paid": ("returns.refund",),
    "api:return-retry-refund": ("returns.refund",),
    **{f"api:return-{step}": ("returns.work",) for step in ("approve", "decline", "blind", "unannounced")},
    "api:return-list": ("returns.work",),
    "api:return-receive": ("returns.work",),
    "api:return-inspect": ("returns.work",),
    "api:return-close": ("returns.work",),
    "api:order-hold": ("orders.hold",),
    "api:order-release": (
        "orders.edit",
        "orders.hold",
        "orders.release",
        "orders.route",
    ),  # each hold asks for its own
    **{
        f"api:purchase-order-{step}": ("purchasing.edit",)
        for step in (
            "list",
            "approve",
            "send",
            "confirm",
            "reschedule",
            "quantity",
            "close",
            "cancel",
            "charges",
        )
    },
    **{f"api:reorder-suggestion-{step}": ("purchasing.edit",) for step in ("order", "snooze", "recalculate")},
    "api:reorder-suggestion-transfer": ("stock.transfer",),
    "api:purchase-order-receive": ("purchasing.receive",),
    "api:order-route": ("orders.route",),
    "threepl:file": ("pii.view",),  # order files hold addresses
    "api:difference-accept": ("stock.adjust",),
    "api:difference-dispute": ("stock.adjust",),
    "api:hand-off-send-again": ("shipping.work",),
    "api:hand-off-take-back": ("shipping.work",),
}
#: who manages people and places, sends goods to another warehouse, or writes the routing rules, which hold for the
#: whole company, must be able to name all of them
NAMES_ALL = {
    "fulfillment:rule",
    "fulfillment:rule_new",
    "threepl:connect",
    "control:users",
    "control:user",
    "control:tokens",
    "control:warehouses",
    "inventory:transfers",
}
#: 404 on one's own object: there is no label yet, the parcel crosses no border, the empty form names no request, the
#: goods arrive elsewhere, the fields of this channel are known and need no mapping, it exchanges no files, no black
#: box waits for a person
NOT_YET = {
    "channels:look_again",
    "channels:mapping",
    "channels:files",
    "channels:file-errors",
    "channels:layout",
    "api:channel-bring",
    "fulfillment:label",
    "fulfillment:invoice",
    "api:shipment-commercial-invoice",
    "api:shipment-label-file",
    "inventory:approvals",
    "api:transfer-receive",
    "api:transfer-settle",
}
#: forms that must say what is to be done before the object is looked up; all others are sent empty
FORMS = {"control:view-change": "action=remove"}
#: what a step in the address can be
VARIANTS: dict[str, dict[str, tuple[str, ...]]] = {
    "fulfillment:step": {"step": tuple(STEPS)},
    "procurement:step": {"step": ("receive", "charge", "approve", "send", "confirm", "cancel", "close")},
    "returns:step": {"step": ("approve", "decline", "receive", "inspect", "refund", "paid", "close")},
    "api:shipment-label-file": {"format_name": ("pdf", "zpl")},
}


@dataclass(frozen=True)
class Address:
    """One URL pattern with the methods it takes and what it says about rights."""

    name: str
    route: str
    view: Any

    @property
    def arguments(self) -> list[str]:
        return re.findall(r"<(?:\w+:)?(\w+)>", self.route)

    @property
    def methods(self) -> list[str]:
        actions = getattr(self.view, "actions", None)
        if actions is not None:
            allowed = getattr(self.view.cls, "http_method_names", [])
            return sorted(method.upper() for method in actions if method in allowed and method != "head")
        found = _allowed(self.view)
        return [method for method in ("GET", "POST") if not found or method in found]

    def rights(self, method: str, variant: str = "") -> tuple[str, ...] | None:
        """One of these is needed; empty: anybody who is logged in; None: the address says nothing."""
        finer = FINER.get(f"{self.name}:{variant}") or FINER.get(self.name)
        actions = getattr(self.view, "actions", None)
        if actions is None:
            if finer:
                return finer
            right = getattr(self.view, "reading" if method == "GET" else "writing", None)
            return None if right is None else ((right,) if right else ())
        scope = scope_of(self, method)
        if finer and method != "GET":
            return finer
        held = SCOPES.get(scope, frozenset())
        return tuple({one for one in held if not one.endswith(".view")} or held) or None


def scope_of(address: Address, method: str) -> str:
    scopes: dict[str, str] = address.view.cls.required_scopes
    return scopes.get(address.view.actions[method.lower()]) or scopes.get(method, "")


def _allowed(view: Any) -> set[str]:
    """The methods that `require_GET` and its kin let through; empty when nothing limits them."""
    while view is not None:
        for cell in view.__closure__ or ():
            value = cell.cell_contents
            if isinstance(value, list | tuple) and value and {"GET", "POST"} & set(map(str, value)):
                return set(value)
        view = getattr(view, "__wrapped__", None)
    return set()


def addresses() -> list[Address]:
    return list(_walk(get_resolver().url_patterns))


def _walk(patterns: list[Any], route: str = "", space: str = "") -> Iterator[Address]:
    for one in patterns:
        here = route + str(one.pattern)
        if isinstance(one, URLResolver):
            if one.namespace == "admin":
                continue  # has a test of its own
            yield from _walk(one.url_patterns, here, f"{one.namespace}:" if one.namespace else space)
        elif isinstance(one, URLPattern) and one.name:
            yield Address(space + one.name, here, one.callback)


SCREENS = [a for a in addresses() if not a.name.startswith("api:") and a.name not in OPEN]
RESOURCES = [a for a in addresses() if a.name.startswith("api:")]
#: files and events name any place: nobody who is limited to some may bring or see one
ONLY_WITHOUT_LIMITS = {
    address.name
    for address in SCREENS + RESOURCES
    if re.search(":(webhook|import)|^api:(user|token)-", address.name)
    and address.name != "control:import-template"
}


def test_every_address_says_who_may_open_it() -> None:
    """Screens through `@screen`, resources through `required_scopes`, all others through `OPEN` above."""
    silent = [
        f"{address.name} ({method} {address.route}): put @screen(…) on it, give it required_scopes, or name it in OPEN"
        for address in SCREENS + RESOURCES
        if not address.route.startswith("admin/")
        for method in address.methods
        if address.rights(method) is None
    ]
    assert not silent, "\n".join(silent)
    assert {right for rights in FINER.values() for right in rights} <= set(PERMISSIONS)
    known = {address.name for address in addresses()}
    assert set(OPEN) <= known and {":".join(name.split(":")[:2]) for name in FINER} <= known


# --- one world per role ---------------------------------------------------------------------------


class Tour:
    """Opens addresses as one person and collects what is wrong."""

    def __init__(self, role: str, client: Any, objects: dict[str, places.Pair]) -> None:
        self.role, self.client, self.objects = role, client, objects
        self.rights = permissions_of(role)
        self.wrong: list[str] = []
        self.asked = 0

    def visit(self, address: Address) -> None:
        variants = VARIANTS.get(address.name, {})
        name, words = next(iter(variants.items()), ("", ("",)))
        for word in words:
            pairs = {one: self._pair(address, one) for one in address.arguments if one != name}
            missing = [one for one, pair in pairs.items() if pair is None]
            if missing:
                self.wrong.append(
                    f"{address.name}: nothing is known for <{missing[0]}> in {address.route}; add a line "
                    f"'{self._key(address, missing[0])}' to objects() in tests/access/places.py"
                )
                return
            near = {one: pair[0] for one, pair in pairs.items() if pair}
            far = {one: pair[1] if pair[1] is not None else pair[0] for one, pair in pairs.items() if pair}
            extra = {name: word} if name else {}
            for method in address.methods:
                self._near(address, method, word, _url(address, {**near, **extra}))
                if far != near:
                    self._far(address, method, word, _url(address, {**far, **extra}))

    def _key(self, address: Address, argument: str) -> str:
        if address.name.startswith("api:"):
            return "api:" + str(address.view.initkwargs["basename"])
        return f"{address.name.split(':')[0]}:{argument}"

    def _pair(self, address: Address, argument: str) -> places.Pair | None:
        return self.objects.get(f"{address.name}:{argument}") or self.objects.get(
            self._key(address, argument)
        )

    def _may(self, address: Address, method: str, word: str) -> bool:
        rights = address.rights(method, word)
        return not rights or any(right in self.rights for right in rights)

    def _near(self, address: Address, method: str, word: str, url: str) -> None:
        answer = self._ask(method, url, FORMS.get(address.name, ""))
        if address.name in ONLY_WITHOUT_LIMITS or not self._may(address, method, word):
            if not _refused(answer):
                self._tell(
                    method, url, answer, f"{self.role} lacks {address.rights(method, word)}: 403 expected"
                )
        elif answer.status_code in (401, 403, 404, 405) or _to_login(answer):
            if not (address.name in NOT_YET and answer.status_code == 404):
                self._tell(method, url, answer, f"{self.role} may open its own")
        if answer.status_code >= 500:
            self._tell(method, url, answer, "broke")
        self._read(address, method, url, answer)

    def _far(self, address: Address, method: str, word: str, url: str) -> None:
        answer = self._ask(method, url, FORMS.get(address.name, ""))
        if answer.status_code == 403 and not self._may(address, method, word):
            return
        if answer.status_code != 404:
            self._tell(method, url, answer, f"foreign to {self.role}: 404 expected")

    def _read(self, address: Address, method: str, url: str, answer: Any) -> None:
        text = _text(answer)
        if answer.status_code >= 400:
            return
        for word in places.FAR_WORDS:
            if word.encode() in text and address.name not in NAMES_ALL:
                self._tell(method, url, answer, f"{self.role} reads '{word}' of a foreign place")
                break
        if "costs.view" not in self.rights and str(places.COST).encode() in text:
            self._tell(method, url, answer, f"{self.role} reads a cost")
        if "pii.view" not in self.rights:
            for word in places.BUYER_WORDS:
                if word.encode() in text:
                    self._tell(method, url, answer, f"{self.role} reads '{word}' of the buyer")

    def _ask(self, method: str, url: str, form: str) -> Any:
        self.asked += 1
        with transaction.atomic():
            answer = self.client(method, url, form)
            _text(answer)  # a stream is read inside the transaction
            transaction.set_rollback(True)
        return answer

    def _tell(self, method: str, url: str, answer: Any, why: str) -> None:
        place = answer.headers.get("Location", "")
        self.wrong.append(f"{method} {url} → {answer.status_code} {place}: {why}")


def _url(address: Address, values: dict[str, Any]) -> str:
    path = re.sub(r"\(\?P<(\w+)>(?:[^()]|\([^)]*\))*\)", r"<\1>", address.route)
    path = re.sub(r"<(?:\w+:)?(\w+)>", lambda found: str(values[found[1]]), path)
    return "/" + path.replace("^", "").replace("$", "")


def _text(answer: Any) -> bytes:
    if getattr(answer, "streaming", False) and not hasattr(answer, "read_once"):
        answer.read_once = b"".join(answer.streaming_content)
    return bytes(getattr(answer, "read_once", b"") or getattr(answer, "content", b""))


def _to_login(answer: Any) -> bool:
    return answer.status_code == 302 and answer.headers["Location"].startswith("/login/")


def _refused(answer: Any) -> bool:
    return answer.status_code == 403


def _screens_client(user: User) -> Callable[..., HttpResponse]:
    client = Client(raise_request_exception=False)
    client.force_login(user)

    def ask(method: str, url: str, form: str = "") -> HttpResponse:
        answer: Any = client.generic(method, url, form.encode(), "application/x-www-form-urlencoded")
        return answer  # type: ignore[no-any-return]

    return ask


def _token_client(user: User, *scopes: str) -> Callable[..., HttpResponse]:
    api = APIClient(raise_request_exception=False)
    _, text = tokens.issue(user, "tour", scopes or sorted(SCOPES), actor=SYSTEM)
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")

    def ask(method: str, url: str, form: str = "") -> HttpResponse:
        answer: Any = api.generic(
            method, url, b"" if method in ("GET", "DELETE") else b"{}", "application/json"
        )
        return answer  # type: ignore[no-any-return]

    return ask


@pytest.fixture(autouse=True)
def _no_rate_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TokenThrottle, "rate", "1000000/min", raising=False)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """A thousand refusals are what is asked for."""
    log = logging.getLogger("django.request")
    level = log.level
    log.setLevel(logging.ERROR)
    yield
    log.setLevel(level)


@pytest.mark.parametrize("role", list(ROLES))
def test_screens(role: str) -> None:
    sku = places.build()
    user = make_user("tess", role, warehouses=(places.NEAR,), channels=(places.SHOP, places.MAPPED))
    tour = Tour(role, _screens_client(user), places.objects(user, sku))
    for address in SCREENS:
        if address.name != "admin:login" and not address.route.startswith("admin/"):
            tour.visit(address)
    assert not tour.wrong, "\n".join(tour.wrong)
    assert tour.asked > 100


@pytest.mark.parametrize("role", list(ROLES))
def test_resources(role: str) -> None:
    sku = places.build()
    user = make_user("tess", role, warehouses=(places.NEAR,), channels=(places.SHOP, places.MAPPED))
    tour = Tour(role, _token_client(user), places.objects(user, sku))
    for address in RESOURCES:
        tour.visit(address)
    assert not tour.wrong, "\n".join(tour.wrong)
    assert tour.asked > 80


def test_nobody_and_a_token_without_the_scope() -> None:
    """Without a log-in: to the log-in page, or 401; with a token of other scopes: 403."""
    sku = places.build()
    owner = make_user("olga")
    objects = places.objects(owner, sku)
    nobody = Tour("nobody", None, objects)
    web, api = Client(raise_request_exception=False), APIClient(raise_request_exception=False)
    wrong = []
    for address in SCREENS + RESOURCES:
        if address.route.startswith("admin/"):
            continue
        variant = {name: words[0] for name, words in VARIANTS.get(address.name, {}).items()}
        pairs = {one: nobody._pair(address, one) for one in address.arguments if one not in variant}
        url = _url(address, {**variant, **{one: pair[0] for one, pair in pairs.items() if pair}})
        for method in address.methods:
            if address in SCREENS:
                answer: Any = web.generic(method, url)
                if not _to_login(answer):
                    wrong.append(f"{method} {url} → {answer.status_code}: the log-in page expected")
                continue
            answer = api.generic(method, url, b"{}", "application/json")
            if answer.status_code != 401:
                wrong.append(f"{method} {url} → {answer.status_code}: 401 expected")
            needed = scope_of(address, method)
            others = sorted(set(SCOPES) - {needed})
            answer = _token_client(owner, *others)(method, url)
            if answer.status_code != 403:
                wrong.append(f"{method} {url} → {answer.status_code}: 403 expected without {needed}")
    assert not wrong, "\n".join(wrong)


# --- the admin ------------------------------------------------------------------------------------


def test_the_admin_is_for_staff_with_the_right_to_the_model() -> None:
    """Every page of every model: roles alone open none, staff without a model's permission neither."""
    from django.contrib import admin

    places.build()
    visitor, staff = make_user("vera", "owner"), make_user("stan", "owner")
    staff.is_staff = True
    staff.save()
    TOTPDevice.objects.create(pk=1, user=visitor)
    wrong = []
    for person, wanted in ((visitor, 302), (staff, 403)):
        web = Client(raise_request_exception=False)
        web.force_login(person)
        for model, site in admin.site._registry.items():
            for one in site.get_urls():
                if not isinstance(one, URLPattern) or not one.name:
                    continue
                path = re.sub(r"<(?:\w+:)?\w+>", "1", str(one.pattern))
                url = f"/admin/{model._meta.app_label}/{model._meta.model_name}/{path}"
                answer = web.get(url)
                missing = answer.status_code == 302 and answer.headers["Location"] == "/admin/"
                if answer.status_code not in (wanted, 404, 405) and not missing:
                    wrong.append(f"{person}: {url} → {answer.status_code}, {wanted} expected")
    assert not wrong, "\n".join(wrong)
