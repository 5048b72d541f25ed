"""The screen on which a person maps a shop's own fields: sample, proposal, corrections, result, live test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from channels import accounts, selectors, trials
from channels.connectors.base import get_connector
from channels.connectors.custom import mapping as maps
from channels.connectors.custom import propose
from channels.connectors.custom.presets import PRESETS
from channels.models import ChannelAccount
from channels.tasks import hook_address
from oms.core.actor import actor_of
from oms.core.errors import NotFound, UserError
from oms.core.screens import posted_whole, screen

GROUPS = tuple(dict.fromkeys(field.group for field in maps.FIELDS))
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

    def groups(self) -> list[tuple[str, list[forms.BoundField]]]:
        found = [
            (group, [self[spec.name] for spec in maps.FIELDS if spec.group == group]) for group in GROUPS
        ]
        words = [self[name] for name in self.fields if name.startswith(STATUS)]
        return [*found[:2], ("Meaning of each status", words), *found[2:]] if words else found


def _widget(spec: maps.Field, value: str, options: Mapping[str, Mapping[str, Any]]) -> forms.Widget:
    if spec.kind == "choice":
        return forms.Select(choices=[(one, WORDS.get(one, one)) for one in spec.choices])
    if spec.kind == "body":
        return forms.Textarea(attrs={"rows": 2, "spellcheck": "false"})
    known = options.get(spec.kind)
    if not known:
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
        "account": account, "form": form, "groups": form.groups(), "orders_sample": work.orders_text,
        "stock_sample": work.stock_text, "errors": work.errors, "problems": work.problems, "tried": work.tried,
        "live": work.live, "presets": [(key, name) for key, (name, _) in PRESETS.items()], "gaps": maps.missing(stored),
        "is_stored": bool(stored), "hook": hook_address(account), "push_sku": request.POST.get("push_sku", ""),
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
            if what == "propose":
                self._propose()
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
                raise UserError("action: use propose, preset, show, save, read or push.")
        except UserError as error:
            self.errors.append(error.message)
            if error.field in maps.BY_NAME:
                self.wrong[error.field] = error.message
            if not what.startswith(("propose", "preset")):
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
        found: dict[str, Any] = {**fields, **({"statuses": words} if words else {})}
        return found or dict(self.account.config.get("mapping") or {})

    def _posted(self) -> dict[str, Any]:
        return maps.checked(self._raw())

    def _propose(self) -> None:
        if self.orders is None:
            raise UserError("Order list: paste an answer of the shop first.", field="orders_sample")
        found = propose.propose(self.orders, self.stock)
        kept = {
            name: value for name, value in self.mapping.items() if not maps.BY_NAME.get(name, _NONE).is_path
        }
        self.mapping = {**kept, **found.mapping}
        self.reasons, self.problems = found.reasons, found.problems
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
        for name, message in self.wrong.items():
            form.fields[name].help_text = message
        return form


_NONE = maps.Field("", "", "", "text")
