"""Taking files of channels that exchange files: from the watched folder, by upload, and over the API.

Good orders go in, each whole or not at all; refused rows get a file of their own with a sentence per row, and a person
is told. The same bytes are taken once; a file that had refused rows may come again, because orders that are in our
books already change nothing.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError, DataError, IntegrityError, transaction

from channels import pulls
from channels.connectors.base import get_connector
from channels.connectors.files import folder as folders
from channels.connectors.files import formats
from channels.connectors.files.folder import Folder
from channels.inbox import take as book
from channels.models import ChannelAccount, ChannelFile
from channels.trials import MOST_SHOWN, Tried
from inventory.models import Sku
from oms.core.actor import Actor, task_actor
from oms.core.arrivals import Arrived, title_of
from oms.core.audit import record
from oms.core.clock import now
from oms.core.csvsafe import stream_csv
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.exceptions_inbox import close_item, raise_item
from oms.core.uploads import MAX_BYTES, Table, read_table
from oms.orders.models import Order, OrderLine
from oms.orders.validation import clean, money_gap, normalise

log = logging.getLogger("lading.channels")

MAX_PROBLEMS = 200
#: a file of ours that waits longer than this is a sign that nobody fetches
UNFETCHED = dt.timedelta(hours=24)


def folder_of(account: ChannelAccount) -> Folder:
    """The account's folder. Raises `NotFound` for a channel that exchanges no files."""
    if not get_connector(account.connector).capabilities.files:
        raise NotFound("files: this channel exchanges no files.")
    return Folder(str(account.config["folder"]))


# --- one file --------------------------------------------------------------------------------------


def take(
    account_id: int, name: str, data: bytes, *, actor: Actor, at: dt.datetime | None = None
) -> ChannelFile:
    """Take a file of orders, returns or listings. `at` = when it was written, now for an upload.

    Rows that are refused stand in `problems` and in a file of the folder `failed`; everything else is in our books.
    Raises `UserError` for a file that cannot be read at all, `Conflict` for one that was taken whole before.
    """
    account = ChannelAccount.objects.select_related("sales_channel").get(pk=account_id)
    place = folder_of(account)
    name = clean(title_of(name), 160) or "file.csv"
    digest = hashlib.sha256(data).hexdigest()
    before = account.files.filter(sha256=digest, refused=0).first()
    if before is not None:
        raise Conflict(
            f"file: this very file was taken on {before.created_at:%Y-%m-%d at %H:%M} UTC as {before.name}. "
            "Nothing was changed.",
            field="file",
        )
    found = formats.read(read_table(data), name, account.config.get("orders") or {}, at or now())
    taken = {"orders": _book_orders, "returns": _book_returns, "listings": _keep_listings}[found.kind](
        account, place, found
    )
    place.ensure()
    errors = place.keep_errors(name, _errors_text(found)) if found.bad else ""
    values = {
        "account": account, "kind": found.kind, "name": name, "sha256": digest, "rows": len(found.cells),
        "taken": taken, "refused": len(found.bad), "problems": _problems(found), "errors_file": errors,
        "actor": str(actor)[:120],
    }  # fmt: skip
    try:
        with transaction.atomic():
            file = ChannelFile.objects.create(**values)
            record(
                actor, "channel.file_taken", account,
                after={"file": name, "kind": found.kind, "taken": taken, "refused": len(found.bad)},
            )  # fmt: skip
            _tell(account, file, actor)
    except IntegrityError as error:  # somebody else took it at the same moment; what it holds is booked once
        raise Conflict("file: this very file is being taken already.", field="file") from error
    return file


def _tell(account: ChannelAccount, file: ChannelFile, actor: Actor) -> None:
    key = f"channel:file:{account.pk}:{file.name}"[:160]
    if not file.refused:
        close_item(key, f"{file.name} was taken whole", actor=actor)
        return
    code = account.sales_channel.code
    rows = "1 row" if file.refused == 1 else f"{file.refused} rows"
    were = "was" if file.refused == 1 else "were"
    raise_item(
        "channel_file", key, f"{account.sales_channel.name}: {rows} of {file.name} {were} not taken"[:200],
        detail="; ".join(f"row {row}: {sentence}" for row, _, sentence in file.problems[:5]),
        url=f"/channels/{code}/files/", channel_code=code,
    )  # fmt: skip


def _problems(found: formats.Read) -> list[list[Any]]:
    return [[row, *found.bad[row]] for row in sorted(found.bad)[:MAX_PROBLEMS]]


def _errors_text(found: formats.Read) -> str:
    """The refused rows as they came, with what is wrong: mended, it can be brought as a file again."""
    width = len(found.header)
    rows = (
        [*(found.cells[row] + [""] * width)[:width], found.bad[row][1]]
        for row in sorted(found.bad)
    )  # fmt: skip
    return "".join(stream_csv([*found.header, "error"], rows))


def _book_orders(account: ChannelAccount, place: Folder, found: formats.Read) -> int:
    done = 0
    for start in range(0, len(found.drafts), 100):
        part = found.drafts[start : start + 100]
        for draft, answer in zip(part, book(account, part, source="csv"), strict=True):
            if answer.outcome == "error":
                numbers = found.rows_of[draft.external_id]
                found.refuse(numbers, numbers[0], "", answer.message)
            else:
                done += 1
    return done


def _book_returns(account: ChannelAccount, place: Folder, found: formats.Read) -> int:
    """Orders are named by id or number, lines by id or SKU."""
    done = 0
    for entry in found.returns:
        numbers = found.rows_of[f"{entry.external_id}\n{entry.order_external_id}"]
        mine = Order.objects.filter(channel=account.sales_channel)
        order = (
            mine.filter(external_id=entry.order_external_id).first()
            or mine.filter(external_number=entry.order_external_id).first()
        )
        if order is None:
            found.refuse(numbers, numbers[0], "", f"there is no order '{entry.order_external_id[:40]}'.")
            continue
        lines = list(
            OrderLine.objects.filter(order=order).order_by("pk").values_list("external_id", "external_sku")
        )
        named, unknown = [], ""
        for code, units, reason in entry.lines:
            line = next((one for one, sku in lines if code in (one, sku)), None)
            unknown = unknown or ("" if line else code)
            named.append((line or "", units, reason))
        if unknown:
            found.refuse(numbers, numbers[0], "", f"the order holds no '{unknown[:40]}'.")
            continue
        pulls.open_return(
            account,
            pulls.RemoteReturn(entry.external_id, order.external_id, entry.state, tuple(named), entry.note),
        )
        done += 1
    return done


def _keep_listings(account: ChannelAccount, place: Folder, found: formats.Read) -> int:
    """The whole list replaces the one before; *Read listings* puts it on the mapping desk."""
    if found.bad:
        raise UserError(
            f"file: row {min(found.bad)}: {found.bad[min(found.bad)][1]} Listings are taken whole or not at all.",
            field="file",
        )
    try:
        place.remember_listings(found.listings)
    except folders.Busy as busy:
        raise UserError(f"file: {busy}; bring it again in a moment.", field="file") from busy
    return len(found.listings)


def offer_all(account_id: int, *, actor: Actor) -> int:
    """Offer every active SKU under its own code, as if the partner had named it; returns how many."""
    account = ChannelAccount.objects.select_related("sales_channel").get(pk=account_id)
    rows = [
        (code, code, title, None)
        for code, title in Sku.objects.filter(is_active=True, merged_into__isnull=True)
        .order_by("code")
        .values_list("code", "product__title")
    ]
    if not rows:
        raise UserError("listings: there is no active SKU to offer.", field="listings")
    try:
        folder_of(account).remember_listings(rows)
    except folders.Busy as busy:
        raise UserError(f"listings: {busy}; try again in a moment.", field="listings") from busy
    record(actor, "channel.offers_all", account, after={"skus": len(rows)})
    return len(rows)


# --- the folder ------------------------------------------------------------------------------------


def collect(account_id: int) -> dict[str, int]:
    """Take every whole file of the folder `in`, the oldest first; counts by what became of them.

    A file that is still being written waits for the next turn. A process killed in the middle leaves the file where it
    is; read again, what it holds is in our books already.
    """
    account = ChannelAccount.objects.select_related("sales_channel").get(pk=account_id)
    place, counts = folder_of(account), {"taken": 0, "refused": 0, "waiting": 0}
    key = f"channel:folder:{account.pk}"
    try:
        with place.locked("collecting"):
            for one in place.arrived():
                data = place.read(one) if one.ready else None
                if data is None:
                    counts["waiting"] += 1
                    continue
                counts["taken" if _collect_one(account, place, one, data) else "refused"] += 1
            waiting = place.waiting()
    except folders.Busy:
        return counts
    except OSError as error:
        code = account.sales_channel.code
        raise_item(
            "channel_folder", key, f"{account.sales_channel.name}: its folder cannot be used",
            detail=f"channels/{place.name}: {error.strerror or error}. Nothing is lost; it is tried every minute.",
            url=f"/channels/{code}/files/", channel_code=code,
        )  # fmt: skip
        return counts
    close_item(key, "the folder can be used")
    ChannelAccount.objects.filter(pk=account_id).update(last_pull_at=now())
    _watch_out(account, waiting)
    return counts


def _collect_one(account: ChannelAccount, place: Folder, one: Arrived, data: bytes) -> bool:
    actor = task_actor("files")
    at = dt.datetime.fromtimestamp(one.at, dt.UTC)
    try:
        if len(data) > MAX_BYTES:
            raise UserError(
                f"file: at most {MAX_BYTES // 1024 // 1024} MB are allowed. Split it.", field="file"
            )
        file = take(account.pk, one.name, data, actor=actor, at=at)
    except Conflict:
        place.put_away(one.name, "done")
        return True
    except UserError as error:
        _set_aside(account, place, one, error.message)
        return False
    except Exception as error:  # one bad file must never stop the others
        away = isinstance(error, DatabaseError) and not isinstance(error, DataError | IntegrityError)
        if away or isinstance(error, OSError):
            raise  # no fault of the file: it is tried again
        log.exception("file failed", extra={"account": account.pk, "file": one.title})
        _set_aside(
            account, place, one,
            "file: an unforeseen error came up while it was read; the log of the workers names it. Orders that it "
            "holds and that are here already stay as they are: bring it again once the cause is mended.",
        )  # fmt: skip
        return False
    place.put_away(one.name, "failed" if file.refused and not file.taken else "done")
    return not file.refused


def _set_aside(account: ChannelAccount, place: Folder, one: Arrived, why: str) -> None:
    """A file that was not taken goes to `failed`, and a person is told."""
    place.put_away(one.name, "failed")
    code = account.sales_channel.code
    raise_item(
        "channel_file", f"channel:file:{account.pk}:{one.title}"[:160],
        f"{account.sales_channel.name}: {one.title} was not taken"[:200], detail=why,
        url=f"/channels/{code}/files/", channel_code=code,
    )  # fmt: skip


def _watch_out(account: ChannelAccount, waiting: Sequence[Arrived]) -> None:
    """Does anybody fetch what we write? A file that stays under one name is not fetched away."""
    key = f"channel:unfetched:{account.pk}"
    stays = account.config["stock"]["name"] if account.config.get("fetched") == "no" else ""
    old = [
        one for one in waiting if one.name != stays and now().timestamp() - one.at > UNFETCHED.total_seconds()
    ]
    if not old:
        close_item(key, "the files were fetched")
        return
    code = account.sales_channel.code
    raise_item(
        "channel_unfetched", key, f"{account.sales_channel.name}: {len(old)} files wait to be fetched",
        detail=f"The oldest is {old[0].name}. The partner has fetched nothing for a day: figures there are old.",
        url=f"/channels/{code}/files/", channel_code=code,
    )  # fmt: skip


def tidy() -> int:
    """Clear away worked-off files after a month, and what was noted of files after a year."""
    gone = 0
    for account in ChannelAccount.objects.filter(connector="files"):
        try:
            gone += folder_of(account).tidy()
        except OSError as error:
            log.warning("folder of account %s: %s", account.pk, error)
    ChannelFile.objects.filter(created_at__lt=now() - dt.timedelta(days=366)).delete()
    return gone


# --- trying out ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample of an order file: its header, its first rows, and what they become."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    delimiter: str


def sample_of(data: bytes) -> Sample:
    """The first rows of a file. Raises `UserError`."""
    table = read_table(data)
    rows = []
    for row in table.rows:
        if any(cell.strip() for cell in row):
            rows.append(tuple(row))
        if len(rows) >= 200:
            break
    return Sample(tuple(table.header), tuple(rows), table.delimiter)


def try_orders(sample: Sample, orders: Mapping[str, Any]) -> list[Tried]:
    """The sample's orders as they would be taken, at most 20; nothing is written. Raises `UserError`."""
    table = Table("csv", sample.delimiter, list(sample.header), iter([list(row) for row in sample.rows]))
    found = formats.read(table, "orders.csv", orders, now())
    tried = []
    for draft in found.drafts[:MOST_SHOWN]:
        try:
            whole = normalise(draft)
            tried.append(Tried(draft.external_id, whole, gap=money_gap(whole)))
        except UserError as error:
            tried.append(Tried(draft.external_id, problem=error.message))
    tried += [
        Tried(f"row {row}", problem=found.bad[row][1]) for row in sorted(found.bad)[: MOST_SHOWN - len(tried)]
    ]
    return tried
