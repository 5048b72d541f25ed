"""Screens of a channel that exchanges files: what came and what waits, and how the files are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib import messages
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_http_methods

from channels import accounts, filedrop, selectors
from channels.connectors.custom.mapping import BY_NAME, MEANINGS
from channels.connectors.files import formats
from channels.connectors.files.folder import Arrived, Folder
from channels.mapping_views import STATUS, WORDS
from channels.models import ChannelAccount, ChannelFile
from channels.trials import Tried
from oms.core.access import can, require
from oms.core.actor import actor_of
from oms.core.csvsafe import stream_csv
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.paging import keyset_page
from oms.core.screens import page, screen
from oms.core.uploads import MAX_BYTES
from oms.core.words import some

#: characters of a sample that travel with the form
MAX_SAMPLE = 200_000
_SPARE = 2
WAYS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    ("dates", "Dates are written", formats.DATES),
    *(
        (name, label, tuple((one, WORDS.get(one, one)) for one in BY_NAME[name].choices))
        for name, label in (
            ("money", "Amounts are written"),
            ("price_is", "The price is for"),
            ("tax_included", "Prices contain the tax"),
        )
    ),
)


def _account(request: HttpRequest, code: str, permission: str) -> tuple[ChannelAccount, Folder]:
    account = selectors.the_account(request.user, code, permission)
    return account, filedrop.folder_of(account)


def bytes_of(upload: UploadedFile | None) -> bytes:
    """What was uploaded. Raises `UserError` without a file and for one that is too long."""
    if upload is None:
        raise UserError("file: choose a file.", field="file")
    if upload.size is not None and upload.size > MAX_BYTES:
        raise UserError(f"file: at most {MAX_BYTES // 1024 // 1024} MB are allowed. Split it.", field="file")
    return bytes(upload.read())


@screen("channels.view", write="channels.manage")
@require_http_methods(["GET", "POST"])
def files(request: HttpRequest, code: str) -> HttpResponse:
    """Bring a file, see what lies in the folder, and what became of each file."""
    account, place = _account(
        request, code, "channels.manage" if request.method == "POST" else "channels.view"
    )
    error = ""
    if request.method == "POST":
        try:
            text = _act(request, account)
        except (UserError, Conflict) as problem:
            error = problem.message
        else:
            messages.success(request, text)
            return redirect("channels:files", code=code)
    arrived: list[Arrived] = []
    waiting: list[Arrived] = []
    trouble = ""
    try:
        arrived, waiting = place.arrived(), place.waiting()
    except OSError as problem:
        trouble = problem.strerror or "the disk refuses it"
    listed = keyset_page(account.files.all(), order=("-id",), cursor=request.GET.get("cursor", ""), limit=50)
    context = {
        "account": account, "folder": place.name, "arrived": arrived, "waiting": waiting[:50], "trouble": trouble,
        "files": listed.items, "next_cursor": listed.next_cursor, "error": error,
        "gaps": formats.gaps(account.config.get("orders") or {}),
        "may_manage": can(request.user, "channels.manage", channel_code=code),
        "see_buyers": can(request.user, "pii.view", channel_code=code),
    }  # fmt: skip
    return page(request, "channels/files.html", context, status=422 if error else 200)


def _act(request: HttpRequest, account: ChannelAccount) -> str:
    what, actor = request.POST.get("action", ""), actor_of(request.user)
    if what == "upload":
        upload = request.FILES.get("file")
        data = bytes_of(upload)
        file = filedrop.take(account.pk, (upload and upload.name) or "file.csv", data, actor=actor)
        return _said(file)
    if what == "collect":
        found = filedrop.collect(account.pk)
        rest = f"; {found['waiting']} still being written" if found["waiting"] else ""
        return f"{some(found['taken'], 'file')} taken, {found['refused']} with rows refused{rest}."
    if what == "offer":
        count = filedrop.offer_all(account.pk, actor=actor)
        made = accounts.import_listings(account.pk, actor=actor)
        return f"{count} SKUs are offered; {made.created} of them are new."
    raise UserError("action: use upload, collect or offer.")


def _said(file: ChannelFile) -> str:
    """What became of a file, in a sentence."""
    text = f"{file.name}: {file.taken} {file.get_kind_display().lower()} taken"
    if file.kind == ChannelFile.Kind.LISTINGS:
        text += ". Read listings puts them on the mapping desk"
    if file.refused:
        row, column, sentence = file.problems[0]
        text += f", {file.refused} rows were not. Row {row}{f', {column}' if column else ''}: {sentence}"
    return text if text.endswith(".") else f"{text}."


@screen("channels.view")
@require_GET
def errors(request: HttpRequest, code: str, file_id: int) -> HttpResponse:
    """The refused rows of a file with a sentence each: to mend and bring again. They hold buyers' data."""
    account, place = _account(request, code, "channels.view")
    require(request.user, "pii.view", channel_code=code)
    file = account.files.filter(pk=file_id).exclude(errors_file="").first()
    data = place.errors(file.errors_file) if file else None
    if file is None or data is None:
        raise NotFound("file: its refused rows are not there any more; they are kept for a month.")
    response = HttpResponse(data, content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = f'attachment; filename="{file.errors_file}"'
    response.headers["Cache-Control"] = "no-store"
    return response


# --- how the files are written ---------------------------------------------------------------------


@screen("channels.manage")
@require_http_methods(["GET", "POST"])
def layout(request: HttpRequest, code: str) -> HttpResponse:
    """Columns of order files by a sample, and the files that we write. Samples hold buyers' data and are not stored."""
    account, place = _account(request, code, "channels.manage")
    work = _Layout(request, account)
    if request.method == "POST":
        done = work.act()
        if done is not None:
            return done
    context = {
        "account": account, "folder": place.name, "work": work, "rows": work.rows(), "words": work.words(),
        "gaps": formats.gaps(account.config.get("orders") or {}), "ways": work.ways(),
        "outs": [
            work.out("stock", "Stock file", formats.STOCK_PRESETS, formats.STOCK_HOLES),
            work.out("shipments", "Shipment file", formats.SHIP_PRESETS, formats.SHIP_HOLES),
        ],
        "meanings": MEANINGS,
    }  # fmt: skip
    return page(request, "channels/layout.html", context, status=422 if work.errors else 200)


_SHOWN: dict[str, Sequence[Mapping[str, Any]]] = {
    "stock": (
        {"sku": "MUG-BLU", "listing_id": "7001", "quantity": 12}, {"sku": "TEE-M", "listing_id": "7002", "quantity": 0},
    ),
    "shipments": (
        {
            "order_id": "9001", "order_number": "1001", "sku": "MUG-BLU", "line_id": "1", "quantity": 2,
            "tracking_number": "1Z999AA10123456784", "carrier_name": "UPS", "carrier": "ups", "service": "ground",
            "shipped_at": "2026-11-26T15:30:00Z", "shipped_on": "2026-11-26", "reference": "881",
            "tracking_url": "https://www.ups.com/track?tracknum=1Z999AA10123456784",
        },
    ),
}  # fmt: skip


class _Layout:
    """One visit of the layout screen."""

    def __init__(self, request: HttpRequest, account: ChannelAccount) -> None:
        self.request, self.account = request, account
        config: Mapping[str, Any] = account.config
        self.orders: dict[str, Any] = dict(config.get("orders") or {})
        self.specs: dict[str, Mapping[str, Any]] = {
            "stock": config["stock"],
            "shipments": config["shipments"],
        }
        self.sample: filedrop.Sample | None = None
        self.text = request.POST.get("sample", "")[:MAX_SAMPLE]
        self.shape = ""
        self.doubts: Mapping[str, str] = {}
        self.tried: list[Tried] | None = None
        self.errors: list[str] = []
        self.wrong = ""

    def act(self) -> HttpResponse | None:
        what = self.request.POST.get("action", "")
        try:
            self._read_sample()
            if what != "propose":
                self._take_posted()
            if what == "propose":
                self._propose()
            elif what == "show":
                self._show()
            elif what in ("stock", "shipments"):
                self._preset(what)
            elif what == "save":
                return self._save()
            else:
                raise UserError("action: use propose, show, stock, shipments or save.")
        except UserError as error:
            self.errors.append(error.message)
            self.wrong = error.field
        return None

    def _read_sample(self) -> None:
        upload = self.request.FILES.get("sample_file")
        data = bytes_of(upload) if upload else self.text.encode()
        if not data.strip():
            return
        self.sample = filedrop.sample_of(data)
        self.text = "".join(stream_csv(self.sample.header, self.sample.rows))[:MAX_SAMPLE]

    def _take_posted(self) -> None:
        posted = self.request.POST
        if "column-id" in posted:
            columns = {
                one.name: posted[f"column-{one.name}"]
                for one in formats.ORDER_COLUMNS
                if posted.get(f"column-{one.name}")
            }
            words = {
                name.removeprefix(STATUS): value
                for name, value in posted.items()
                if name.startswith(STATUS) and value
            }
            ways = {name: posted.get(name, "") for name in (*formats.WAYS, "dates") if posted.get(name)}
            self.orders = {**ways, "columns": columns, "statuses": words if "status" in columns else {}}
        for what in self.specs:
            if f"{what}_name" in posted:
                self.specs[what] = {
                    "name": posted[f"{what}_name"], "delimiter": posted.get(f"{what}_delimiter", "comma"),
                    "columns": [
                        [posted.get(f"{what}_header_{place}", ""), posted.get(f"{what}_value_{place}", "")]
                        for place in range(formats.MAX_COLUMNS)
                        if posted.get(f"{what}_header_{place}", "").strip()
                    ],
                }  # fmt: skip

    def _propose(self) -> None:
        if self.sample is None:
            raise UserError(
                "Sample: choose an order file of theirs, or paste its first lines.", field="sample"
            )
        found = formats.propose(self.sample.header, self.sample.rows, self.orders)
        self.orders, self.shape, self.doubts = found.orders, found.shape, found.doubts
        if not formats.gaps(self.orders) and not found.doubts:
            self._show()

    def _show(self) -> None:
        if self.sample is None:
            raise UserError("Sample: choose an order file of theirs to see the result.", field="sample")
        self.tried = filedrop.try_orders(self.sample, formats.checked_orders(self.orders))

    def _preset(self, what: str) -> None:
        presets = formats.STOCK_PRESETS if what == "stock" else formats.SHIP_PRESETS
        chosen = presets.get(self.request.POST.get(f"{what}_preset", ""))
        if chosen is None:
            raise UserError(f"{what}: choose a format of the list.", field=what)
        self.specs[what] = chosen[1]

    def _save(self) -> HttpResponse:
        accounts.set_config(
            self.account.pk, {"orders": self.orders, **self.specs}, actor=actor_of(self.request.user)
        )
        tested = accounts.test(self.account.pk, actor=actor_of(self.request.user))
        short = formats.gaps(self.orders)
        if not tested.ok:
            messages.error(self.request, f"Saved, but: {tested.message}")
        elif short:
            messages.warning(self.request, f"Saved. Order files cannot be read yet: {', '.join(short)}.")
        else:
            messages.success(
                self.request, "Saved. The folder was written to and read: the channel is connected."
            )
        return redirect("channels:layout", code=self.account.sales_channel.code)

    # --- what the page shows -----------------------------------------------------------------------
    def headers(self) -> list[tuple[str, str]]:
        """(header, its first value in the sample)."""
        if self.sample is None:
            return [(one, "") for one in dict.fromkeys((self.orders.get("columns") or {}).values())]
        found = []
        for place, header in enumerate(self.sample.header):
            values = (row[place].strip() for row in self.sample.rows if place < len(row))
            found.append((header, next((value for value in values if value), "")[:60]))
        return [one for one in found if one[0]]

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Fields of an order: `look` needs a person, `found` is matched, `rest` is not in the file."""
        columns = self.orders.get("columns") or {}
        shown = dict(self.headers())
        groups: dict[str, list[dict[str, Any]]] = {"look": [], "found": [], "rest": []}
        for one in formats.ORDER_COLUMNS:
            header = columns.get(one.name, "")
            absent = one.needed and not header
            if one.name == "currency" and not header and not self.orders.get("fixed_currency"):
                absent = True
            doubt = self.doubts.get(one.name, "")
            if header and self.sample is not None and header not in shown:
                doubt = "the sample has no such column"
            group = "look" if absent or doubt else "found" if header else "rest"
            groups[group].append({
                "name": one.name, "label": formats.label(one.name), "help": one.help, "header": header,
                "value": shown.get(header, ""), "doubt": doubt or ("needed" if absent else ""),
            })  # fmt: skip
        return groups

    def words(self) -> list[tuple[str, str]]:
        """Status words with their meaning; those of the sample that have none come first."""
        found = dict(self.orders.get("statuses") or {})
        header = (self.orders.get("columns") or {}).get("status", "")
        if self.sample is not None and header in self.sample.header:
            place = self.sample.header.index(header)
            for row in self.sample.rows:
                word = row[place].strip().lower()[:80] if place < len(row) else ""
                if word:
                    found.setdefault(word, "")
        return sorted(found.items(), key=lambda one: (bool(one[1]), one[0]))[:100]

    def ways(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "label": label, "options": options, "chosen": self.orders.get(name, ""),
             "doubt": self.doubts.get(name, "")}
            for name, label, options in WAYS
        ]  # fmt: skip

    def out(
        self, what: str, title: str, presets: Mapping[str, Any], holes: Sequence[tuple[str, str]]
    ) -> dict[str, Any]:
        """One file that we write, with how it looks."""
        spec = self.specs[what]
        columns = [*spec["columns"], *[["", ""]] * _SPARE][: formats.MAX_COLUMNS]
        try:
            clean = formats.checked_spec(spec, what, holes)
            sample = formats.table_text(clean, _SHOWN[what])
        except UserError:
            sample = ""
        return {
            "what": what, "title": title, "name": spec["name"], "delimiter": spec["delimiter"], "holes": holes,
            "columns": list(enumerate(columns)), "presets": [(key, words) for key, (words, _) in presets.items()],
            "delimiters": formats.DELIMITERS, "sample": sample,
        }  # fmt: skip
