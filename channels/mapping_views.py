"""The screen on which a person maps a shop's own fields: sample, proposal, corrections, result, live test."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from channels import accounts, selectors, trials
from channels.connectors.base import Confirmation, PushItem, ShipItem, get_connector
from channels.connectors.custom import examples, propose
from channels.connectors.custom import mapping as maps
from channels.connectors.custom.client import Custom
from channels.connectors.custom.presets import PRESETS
from channels.models import ChannelAccount
from channels.tasks import hook_address
from oms.core.actor import actor_of
from oms.core.errors import NotFound, UserError
from oms.core.screens import posted_whole, screen

#: fields of the folded parts and of the two panels about writing
PARTS: dict[str, tuple[str, ...]] = {
    "ways": ("money", "price_is", "tax_included", "fixed_currency", "time_zone"),
    "stock": ("stock_method", "stock_path", "stock_body"),
    "stock_more": ("stock_item", "stock_list", "stock_key", "stock_quantity"),
    "ship": ("ship_method", "ship_path", "ship_body"),
    "ship_more": ("ship_line", "ship_tracking"),
    "pages": (
        "order_path", "order_root", "paging", "page_param", "first_page", "page_size", "cursor_path", "total_path",
        "since_param", "since_format",
    ),
    "products": ("products_path", "products_list", "product_id", "product_sku", "product_title", "product_quantity"),
    "notices": ("hook_header", "hook_algorithm", "hook_encoding", "hook_prefix", "hook_order"),
}  # fmt: skip
#: reasons that a person should look at
_GUESSES = ("probably", "only time", "ends as an id")
_PARCEL = Confirmation(
    "", "1", "ups", "UPS", "ground", "1Z999AA10123456784", "", dt.datetime(2026, 11, 26, 15, 30, tzinfo=dt.UTC), ()
)  # fmt: skip
WORDS = {
    "none": "None", "page": "Page number", "offset": "Offset", "cursor": "Cursor", "link": "Link to the next page",
    "iso": "2026-11-23T14:00:00Z", "space": "2026-11-23 14:00:00", "unix": "Seconds since 1970",
    "unix_ms": "Milliseconds since 1970", "major": "12.34", "minor": "1234 (cents)", "comma": "12,34",
    "unit": "One unit", "line": "The whole line", "yes": "Yes", "no": "No",
}  # fmt: skip
STATUS = "status: "


class MappingForm(forms.Form):
    """Every field of a mapping: paths as selects of what the sample holds, or as texts where there is no sample."""

    def __init__(
        self,
        *args: Any,
        mapping: Mapping[str, Any],
        reasons: Mapping[str, str],
        options: Mapping[str, Mapping[str, Any]],
        words: Mapping[str, str],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        for spec in maps.FIELDS:
            value = (
                self.data.get(spec.name, mapping.get(spec.name, ""))
                if self.is_bound
                else mapping.get(spec.name, "")
            )
            reason = reasons.get(spec.name, "")
            self.fields[spec.name] = forms.CharField(
                label=spec.label, required=False, max_length=4000, initial=value,
                help_text=f"Proposed: {reason}." if reason else spec.help, widget=_widget(spec, str(value), options),
            )  # fmt: skip
        for word, meaning in words.items():
            self.fields[STATUS + word] = forms.CharField(
                label=f"“{word}” means", required=False, initial=meaning,
                widget=forms.Select(choices=[("", "choose"), *((one, one.capitalize()) for one in maps.MEANINGS)]),
            )  # fmt: skip

    def some(self, *names: str) -> list[forms.BoundField]:
        return [self[name] for name in names]

    def words(self) -> list[tuple[forms.BoundField, bool]]:
        """Status words, those without a meaning first, and whether they need one."""
        found = [
            (self[name], not self.fields[name].initial) for name in self.fields if name.startswith(STATUS)
        ]
        return sorted(found, key=lambda one: not one[1])


def _widget(spec: maps.Field, value: str, options: Mapping[str, Mapping[str, Any]]) -> forms.Widget:
    if spec.kind == "choice":
        return forms.Select(choices=[(one, WORDS.get(one, one)) for one in spec.choices])
    if spec.kind == "body":
        return forms.Textarea(attrs={"rows": 2, "spellcheck": "false"})
    known = options.get(spec.kind)
    if (
        not known or spec.name == "ship_tracking"
    ):  # an order without a parcel does not show where it would stand
        return forms.TextInput(attrs={"spellcheck": "false"})
    choices = [("", "–"), *((path, f"{path} — {maps.short(shown)}") for path, shown in known.items())]
    if value and value not in known:
        choices.append((value, f"{value} — not in the sample"))
    return forms.Select(choices=choices)


def _options(orders: Any, stock: Any, mapping: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What the selects offer: the paths of the sample, by where they begin."""
    found: dict[str, dict[str, Any]] = {}
    if orders is not None:
        around = orders if isinstance(orders, dict) else {}
        found["list"] = {
            **{path: rows for path, rows in propose.lists_of(orders) if path},
            **propose.paths_of({name: one for name, one in around.items() if not isinstance(one, list)}),
        }
        rows = _first(orders, mapping.get("orders_list", ""))
        found["order"] = propose.paths_of(rows, lists=True)
        found["line"] = propose.paths_of(
            _first(rows, mapping.get("lines", "")) if mapping.get("lines") else None
        )
    if stock is not None:
        found["stock_list"] = {path: rows for path, rows in propose.lists_of(stock) if path}
        found["stock"] = propose.paths_of(_first(stock, mapping.get("stock_list", "")))
    return found


def _first(answer: Any, path: str) -> Any:
    try:
        found = maps.look(answer, path)
    except maps.Unfit:
        return None
    return found[0] if isinstance(found, list) and found else found


def _sample(text: str, what: str, field: str) -> Any:
    """A pasted answer; None for none. Raises `UserError`."""
    if not text.strip():
        return None
    try:
        return maps.parse_json(text, what)
    except maps.Unfit as error:
        raise UserError(str(error), field=field) from error


@screen("channels.manage")
@require_http_methods(["GET", "POST"])
def mapping(request: HttpRequest, code: str) -> HttpResponse:
    """Samples are never stored: they hold buyers' addresses, and travel with the form only."""
    account = selectors.the_account(request.user, code, "channels.manage")
    if not get_connector(account.connector).capabilities.mapped:
        raise NotFound("mapping: this channel's fields are known and need no mapping.")
    stored: dict[str, Any] = dict(account.config.get("mapping") or {})
    work = _Work(request, account, stored)
    if request.method == "POST":
        answer = work.act()
        if answer is not None:
            return answer
    form = work.form()
    context = {
        "account": account, "form": form, "rows": work.rows(form), "parts": {
            name: form.some(*names) for name, names in PARTS.items()
        }, "words": form.words(), "sent": work.would_send(), "first": work.first(), "orders_sample": work.orders_text,
        "stock_sample": work.stock_text, "errors": work.errors, "problems": work.problems, "tried": work.tried,
        "live": work.live, "presets": [(key, name) for key, (name, _) in PRESETS.items()], "gaps": maps.missing(stored),
        "is_stored": bool(stored), "meanings": maps.MEANINGS, "hook": hook_address(account),
        "push_sku": request.POST.get("push_sku", ""),
        "push_quantity": request.POST.get("push_quantity", ""),
    }  # fmt: skip
    return render(request, "channels/mapping.html", context, status=422 if work.errors else 200)


class _Work:
    """One visit of the mapping screen."""

    def __init__(self, request: HttpRequest, account: ChannelAccount, stored: dict[str, Any]) -> None:
        self.request, self.account = request, account
        self.mapping: dict[str, Any] = stored
        self.reasons: Mapping[str, str] = {}
        self.problems: tuple[str, ...] = ()
        self.errors: list[str] = []
        self.wrong: dict[str, str] = {}
        self.tried: list[trials.Tried] | None = None
        self.live = False
        self.orders: Any = None
        self.stock: Any = None
        self.orders_text = request.POST.get("orders_sample", "")
        self.stock_text = request.POST.get("stock_sample", "")

    def act(self) -> HttpResponse | None:
        """What the pressed button asks for; a redirect when it is done, None to show the page again."""
        what = self.request.POST.get("action", "")
        try:
            self.orders = _sample(self.orders_text, "Order list", "orders_sample")
            self.stock = _sample(self.stock_text, "Stock answer", "stock_sample")
            if what in ("propose", "fetch"):
                self._fetch() if what == "fetch" else self._propose()
                return None
            if what == "preset":
                self._preset()
                return None
            self.mapping = self._posted()
            if what == "show":
                self._show()
            elif what == "save":
                return self._save()
            elif what == "read":
                self._stored_only()
                self.tried, self.live = trials.read_page(self.account), True
            elif what == "push":
                self._stored_only()
                text = trials.push_one(
                    self.account, self.request.POST.get("push_sku", ""), posted_whole(self.request, "push_quantity"),
                    actor=actor_of(self.request.user),
                )  # fmt: skip
                messages.success(self.request, text)
                return redirect("channels:mapping", code=self.account.sales_channel.code)
            else:
                raise UserError("action: use fetch, propose, preset, show, save, read or push.")
        except UserError as error:
            self.errors.append(error.message)
            if error.field in maps.BY_NAME:
                self.wrong[error.field] = error.message
            if not what.startswith(("propose", "preset", "fetch")):
                self.mapping = self._raw()
        return None

    def _raw(self) -> dict[str, Any]:
        """The posted fields as they are; a form without them (an old page) keeps what is stored."""
        posted = self.request.POST
        fields = {name: posted[name] for name in maps.BY_NAME if posted.get(name, "").strip()}
        words = {
            name.removeprefix(STATUS): value
            for name, value in posted.items()
            if name.startswith(STATUS) and value
        }
        if posted.get("new_word", "").strip() and posted.get("new_meaning"):
            words[posted["new_word"].strip()] = posted["new_meaning"]
        found: dict[str, Any] = {**fields, **({"statuses": words} if words else {})}
        return found or dict(self.account.config.get("mapping") or {})

    def _posted(self) -> dict[str, Any]:
        return maps.checked(self._from_examples(self._raw()))

    def _from_examples(self, mapping: dict[str, Any]) -> dict[str, Any]:
        """Addresses and bodies copied out of the shop's description, with placeholders instead of examples."""
        found, names = dict(mapping), self._names(mapping)
        order = {"order_id": names["order_id"], "order_number": names["order_number"]}
        for name, values in (
            ("order_path", {"order_id": names["order_id"]}), ("ship_path", order),
            ("stock_path", {"sku": names["sku"]}), ("stock_read_path", {"sku": names["sku"]}),
        ):  # fmt: skip
            if found.get(name):
                found[name] = examples.address(found[name], values)
        for name, inner, part, known, parts in (
            ("stock_body", "items", "stock_item", examples.STOCK_NAMES, examples.STOCK_NAMES),
            ("ship_body", "lines", "ship_line", examples.SHIP_NAMES, examples.LINE_NAMES),
        ):
            try:
                found[name], entry = examples.body(found.get(name, ""), known, inner, parts)
            except maps.Unfit as error:
                raise UserError(f"{maps.BY_NAME[name].label}: {error}", field=name) from error
            if entry:
                found[part] = entry
        return {name: value for name, value in found.items() if value}

    def _names(self, mapping: Mapping[str, Any]) -> dict[str, str]:
        """Id, number and SKU of the first order of the sample; empty without one."""
        found = {"order_id": "", "order_number": "", "sku": "", "line_id": ""}
        try:
            row = maps.rows_of(self.orders, mapping.get("orders_list", ""), "")[0]
            line = _first(row, mapping.get("lines", "")) if mapping.get("lines") else {}
            for name, where, path in (
                ("order_id", row, "id"), ("order_number", row, "number"), ("sku", line, "line_sku"),
                ("line_id", line, "line_id"),
            ):  # fmt: skip
                if mapping.get(path):
                    found[name] = maps.text_of(maps.look(where, mapping[path]), path)
        except (maps.Unfit, IndexError):
            pass
        return found

    def _tracking(self) -> str:
        """Where an order of the sample shows tracking numbers: of every parcel, not of the first."""
        try:
            rows = maps.rows_of(self.orders, self.mapping.get("orders_list", ""), "")
        except maps.Unfit:
            return ""
        for row in rows[:50]:
            for path in propose.paths_of(row):
                if propose.words_of(path.rpartition(".")[2]) in examples.SHIP_NAMES["tracking_number"]:
                    return re.sub(r"\[\d+\]", "[*]", path)
        return ""

    def _fetch(self) -> None:
        """A sample read live, and what it tells. Nothing is written or booked."""
        given = {name: self.request.POST.get(name, "").strip() for name in ("orders_path", "stock_read_path")}
        if not given["orders_path"]:
            raise UserError(
                "Address of the order list: write the part after the base address, such as /orders.",
                field="orders_path",
            )
        self.mapping = {**self.mapping, **maps.checked(given)}
        self.orders_text = trials.fetch(self.account, self.mapping["orders_path"])
        self.orders = _sample(self.orders_text, "Order list", "orders_sample")
        path = self.mapping.get("stock_read_path", "")
        if path and not maps.unknown_holes(path, ()):
            self.stock_text = trials.fetch(self.account, path)
            self.stock = _sample(self.stock_text, "Stock answer", "stock_sample")
        self._propose()
        if not self.mapping.get("order_path"):
            one = trials.find_one(self.account, self.mapping, self.orders)
            self.mapping.update(one)
            if one:
                self.reasons = {**self.reasons, "order_path": "tried: the order stands there"}

    def _propose(self) -> None:
        if self.orders is None:
            raise UserError("Order list: paste an answer of the shop first.", field="orders_sample")
        found = propose.propose(self.orders, self.stock)
        kept = {
            name: value for name, value in self.mapping.items() if not maps.BY_NAME.get(name, _NONE).is_path
        }
        posted = {
            name: self.request.POST[name].strip()
            for name, field in maps.BY_NAME.items()
            if not field.is_path and self.request.POST.get(name, "").strip()
        }
        self.mapping = self._from_examples({**kept, **posted, **found.mapping})
        self.reasons, self.problems = found.reasons, found.problems
        track = self._tracking()
        if track and not self.mapping.get("ship_tracking"):
            self.mapping["ship_tracking"] = track
        if not maps.missing({**self.mapping, "orders_path": "/"}):
            self.tried = trials.try_orders({**self.mapping, "orders_path": "/"}, self.orders)

    def _preset(self) -> None:
        chosen = PRESETS.get(self.request.POST.get("preset", ""))
        if chosen is None:
            raise UserError("Ready mapping: choose one of the list.", field="preset")
        self.mapping = dict(chosen[1])

    def _show(self) -> None:
        if self.orders is None:
            raise UserError(
                "Order list: paste an answer of the shop to see the result.", field="orders_sample"
            )
        self.tried = trials.try_orders(self.mapping, self.orders)

    def _save(self) -> HttpResponse:
        accounts.set_config(self.account.pk, {"mapping": self.mapping}, actor=actor_of(self.request.user))
        gaps = maps.missing(self.mapping)
        if gaps:
            messages.warning(self.request, f"Saved. Orders cannot be read yet: {', '.join(gaps)}.")
        else:
            messages.success(self.request, "Saved. Now read a page live.")
        return redirect("channels:mapping", code=self.account.sales_channel.code)

    def _stored_only(self) -> None:
        """The live test works with what is stored: what is on the page must be the same."""
        if self.mapping != maps.checked(self.account.config.get("mapping") or {}):
            raise UserError("Save the mapping first: the live test works with what is saved.")

    # --- what the page shows -----------------------------------------------------------------------
    def doubts(self) -> dict[str, str]:
        """Fields that a person should look at, and why."""
        found = dict(self.wrong)
        for name, reason in self.reasons.items():
            if any(word in reason for word in _GUESSES):
                found.setdefault(name, f"please check: {reason.partition(';')[0]}")
        for spec in maps.FIELDS:
            if spec.required and not self.mapping.get(spec.name):
                found.setdefault(spec.name, "needed")
        if not self.mapping.get("currency") and not self.mapping.get("fixed_currency"):
            found.setdefault("currency", "needed")
        if any(one.gap for one in self.tried or ()):
            found.setdefault("total", "the parts do not add up to it")
        return found

    def rows(self, form: MappingForm) -> dict[str, list[dict[str, Any]]]:
        """Fields of an order by what they want: `look` a person, `found` nothing, `rest` are not mapped."""
        doubts, options = self.doubts(), _options(self.orders, self.stock, self.mapping)
        groups: dict[str, list[dict[str, Any]]] = {"look": [], "found": [], "rest": []}
        for spec in maps.FIELDS:
            if (
                spec.name != "orders_list"
                and spec.kind not in ("order", "line")
                or spec.name == "ship_tracking"
            ):
                continue
            path = self.mapping.get(spec.name, "")
            value = options.get(spec.kind, {}).get(path) if path else None
            row = {
                "field": form[spec.name], "doubt": doubts.get(spec.name, ""), "help": spec.help,
                "value": "" if value is None else maps.short(value).strip("'"), "is_line": spec.kind == "line",
            }  # fmt: skip
            groups["look" if row["doubt"] else "found" if path else "rest"].append(row)
        return groups

    def first(self) -> trials.Tried | None:
        """The first order of the sample as ours, or the first that cannot be taken, which says more."""
        tried = self.tried or []
        return next((one for one in tried if one.draft is None), tried[0] if tried else None)

    def would_send(self) -> dict[str, str]:
        """The requests that would write a quantity and confirm a parcel of the sample; empty where none can."""
        names, config = self._names(self.mapping), {**self.account.config, "mapping": self.mapping}
        port, found = Custom(), {"stock": "", "ship": ""}
        sku = names["sku"] or "MUG-BLU"
        parcel = replace(
            _PARCEL, order_external_id=names["order_id"] or "1001", order_number=names["order_number"],
            items=(ShipItem(names["line_id"] or "1", 1),),
        )  # fmt: skip
        asked = {
            "stock": lambda: port.describe_push(config, PushItem(0, sku, sku, "", 12, "")),
            "ship": lambda: port.describe_shipment(config, parcel),
        }
        for name, describe in asked.items():
            if self.mapping.get(f"{name}_path"):
                try:
                    method, path, body = describe()
                except (KeyError, ValueError):
                    continue
                text = (
                    "" if body is None else "\n" + json.dumps(body, indent=2, ensure_ascii=False, default=str)
                )
                found[name] = f"{method} {config['base_url']}{path}{text}"
        return found

    def form(self) -> MappingForm:
        words = {str(word): str(meaning) for word, meaning in (self.mapping.get("statuses") or {}).items()}
        if self.orders is not None and self.mapping.get("status"):
            try:
                rows = maps.rows_of(self.orders, self.mapping.get("orders_list", ""), "")
                for row in rows[:200]:
                    word = maps.status_word(self.mapping, row)[:80]
                    if word:
                        words.setdefault(word, "")
            except maps.Unfit:
                pass
        form = MappingForm(
            mapping=self.mapping, reasons=self.reasons, words=words,
            options=_options(self.orders, self.stock, self.mapping),
        )  # fmt: skip
        for name, message in self.doubts().items():
            if name in self.wrong:
                form.fields[name].help_text = message
        return form


_NONE = maps.Field("", "", "", "text")
