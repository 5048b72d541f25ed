"""A partner that exchanges files: orders in, stock and shipments out, in a folder that an SFTP server may serve.

No request leaves us: every operation is work on the account's folder. Orders, returns and listings are taken by
`channels.filedrop`, because a file has rows that are refused and is taken once.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from channels.connectors.base import (
    Access,
    Capabilities,
    ChannelError,
    Confirmation,
    Connector,
    FieldSpec,
    ListingPage,
    ListingRef,
    Op,
    PushItem,
    PushResult,
    RemoteListing,
    Retry,
    ShopFacts,
    register,
)
from channels.connectors.files import folder as folders
from channels.connectors.files import formats
from channels.connectors.files.folder import Folder
from oms.core.errors import UserError
from oms.core.uploads import read_table

BATCH = 10_000


class Files(Connector):
    key = "files"
    name = "Files (CSV, SFTP)"
    capabilities = Capabilities(
        quantity_batch=BATCH,
        quantity_connections=1,
        bulk_fetched=True,
        poll_seconds=60,
        other_carriers=True,
        repeatable=frozenset({"ship"}),
        files=True,
    )
    config_fields = (
        FieldSpec(
            "folder", "Name of the folder",
            help="below channels/ in the data folder: acme gives channels/acme/in and channels/acme/out",
        ),
        FieldSpec(
            "fetched", "A stock file counts", required=False, default="yes",
            help="taken away: files are numbered, and only one waits. Left there: one file under one name, replaced",
            choices=(("yes", "once the partner has taken it away"), ("no", "as soon as it is written")),
        ),
        FieldSpec(
            "content", "A stock file holds", required=False, default="whole",
            choices=(("whole", "every listing"), ("changes", "what has changed")),
        ),
    )  # fmt: skip

    def check_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        name = str(config.get("folder", "")).strip()
        if not folders.NAME.match(name):
            raise UserError(
                "folder: write up to 40 lower case letters, digits and hyphens, such as acme.", field="folder"
            )
        fetched, content = str(config.get("fetched") or "yes"), str(config.get("content") or "whole")
        if fetched not in ("yes", "no"):
            raise UserError("fetched: choose yes or no.", field="fetched")
        if content not in ("whole", "changes"):
            raise UserError("content: choose whole or changes.", field="content")
        stock = formats.checked_spec(
            config.get("stock") or formats.STOCK_PRESETS["plain"][1], "stock", formats.STOCK_HOLES
        )
        formats.needs(stock, "stock", (("{quantity}",), ("{sku}", "{listing_id}")))
        ship = formats.checked_spec(
            config.get("shipments") or formats.SHIP_PRESETS["plain"][1], "shipments", formats.SHIP_HOLES
        )
        formats.needs(ship, "shipments", (("{tracking_number}",), ("{order_id}", "{order_number}")))
        if PurePath(stock["name"]).stem.lower() == PurePath(ship["name"]).stem.lower():
            raise UserError(
                "shipments: give this file another name than the stock file.", field="shipments_name"
            )
        orders = formats.checked_orders(config.get("orders") or {})
        return {
            **config, "folder": name, "fetched": fetched, "content": content, "orders": orders, "stock": stock,
            "shipments": ship,
        }  # fmt: skip

    def bulk_from(self, config: Mapping[str, Any]) -> int:
        return 1 if config.get("fetched", "yes") == "yes" else 0

    def probe(self, access: Access) -> Op[ShopFacts]:
        """Writes a file into each folder, reads and removes it; from then on the folder is this account's alone."""
        yield from ()
        with _work(access) as folder:
            folder.claim(access.account_id)
            for part in ("in", "out", "done", "failed"):
                if not folder.try_out(part):
                    raise ChannelError(
                        Retry.TRANSIENT, f"what is written to {part} is not what is read there"
                    )
        return ShopFacts(f"The folder channels/{folder.name}")

    # --- stock ---------------------------------------------------------------------------------------
    def push_quantities(self, access: Access, items: Sequence[PushItem]) -> Op[list[PushResult]]:
        """A file that counts as soon as it is written."""
        yield from ()
        with _work(access) as folder:
            memory = folder.memory()
            told = _told(items)
            memory["shown"] = _current({**memory["shown"], **told}, memory)
            if access.config.get("content") == "changes":
                name = _numbered(access.config["stock"]["name"], memory)
                folder.lay(name, formats.table_text(access.config["stock"], formats.stock_rows(told)))
            else:
                name = access.config["stock"]["name"]
                folder.lay(
                    name, formats.table_text(access.config["stock"], formats.stock_rows(memory["shown"]))
                )
            folder.remember(memory)
        return [PushResult(item.listing_id) for item in items]

    def push_bulk(self, access: Access, items: Sequence[PushItem]) -> Op[str]:
        """A numbered file that counts once it is fetched; it takes the place of one that was not."""
        yield from ()
        with _work(access) as folder:
            memory = folder.memory()
            older = {name: told for name, told in memory["waiting"].items() if folder.lies_there(name)}
            for name, told in memory["waiting"].items():
                if name not in older:  # fetched, and not asked for since
                    memory["shown"].update(told)
            told = _told(items)
            for before in older.values():  # nothing that a file not fetched has told is forgotten
                told = {**before, **told}
            name = _numbered(access.config["stock"]["name"], memory)
            whole = access.config.get("content") != "changes"
            rows = _current({**memory["shown"], **told}, memory) if whole else told
            # laid first: killed after it, its listings are still stale and the next file replaces it
            folder.lay(name, formats.table_text(access.config["stock"], formats.stock_rows(rows)))
            for before in _numbers(folder, access.config["stock"]["name"], name):
                folder.take_back(before)
            folder.remember({**memory, "waiting": {name: told}})
        return name

    def bulk_result(
        self, access: Access, handle: str, items: Sequence[PushItem]
    ) -> Op[list[PushResult] | None]:
        """Accepted once the file is gone from `out`; None while it lies there."""
        yield from ()
        with _work(access) as folder:
            if folder.lies_there(handle):
                return None
            memory = folder.memory()
            told = memory["waiting"].pop(handle, None)
            if told is not None:
                memory["shown"].update(told)
                folder.remember(memory)
        return [PushResult(item.listing_id) for item in items]

    def read_quantities(self, access: Access, refs: Sequence[ListingRef]) -> Op[dict[int, int]]:
        """What the partner has: the file that lies there, or the figures of the files it has fetched."""
        yield from ()
        with _work(access) as folder:
            memory = folder.memory()
            shown = {("{listing_id}", key): int(one[1]) for key, one in memory["shown"].items()}
            if access.config.get("fetched") == "no" and access.config.get("content") != "changes":
                data = folder.lies(access.config["stock"]["name"])
                try:
                    shown = formats.quantities_of(access.config["stock"], read_table(data)) if data else {}
                except UserError:
                    shown = {}
        found = {}
        for ref in refs:
            for key in (("{listing_id}", ref.external_id), ("{sku}", ref.external_sku)):
                if key in shown:
                    found[ref.listing_id] = shown[key]
                    break
        return found

    def list_listings(self, access: Access, cursor: str) -> Op[ListingPage]:
        """The offers of the last file of listings, in one page."""
        yield from ()
        with _work(access) as folder:
            listings = folder.memory()["listings"]
        if listings is None:
            raise ChannelError(
                Retry.REJECTED,
                "No list of offers is known yet: bring a file listings.csv with a column sku, "
                "or offer every SKU of yours.",
            )
        return ListingPage(
            tuple(RemoteListing(key, sku, title, quantity=quantity) for key, sku, title, quantity in listings)
        )

    # --- effects -------------------------------------------------------------------------------------
    def confirm_shipment(self, access: Access, parcel: Confirmation) -> Op[str]:
        """One file per parcel, laid once whatever happens; its number is the parcel's."""
        yield from ()
        spec = access.config["shipments"]
        head: dict[str, Any] = {
            "order_id": parcel.order_external_id, "order_number": parcel.order_number or parcel.order_external_id,
            "tracking_number": parcel.tracking_number, "tracking_url": parcel.tracking_url, "carrier": parcel.carrier,
            "carrier_name": parcel.carrier_name or parcel.carrier, "service": parcel.service,
            "shipped_at": parcel.shipped_at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "shipped_on": parcel.shipped_at.astimezone(dt.UTC).strftime("%Y-%m-%d"), "reference": parcel.reference,
        }  # fmt: skip
        rows = [
            {**head, "line_id": one.line_external_id, "sku": one.sku, "quantity": one.quantity}
            for one in parcel.items
        ]
        stem, ending = spec["name"].rsplit(".", 1)
        with _work(access) as folder:
            folder.tell_once(
                _safe(parcel.reference),
                f"{stem}-{_safe(parcel.reference)}.{ending}",
                formats.table_text(spec, rows),
            )
        return parcel.reference

    def read_shipment(self, access: Access, parcel: Confirmation) -> Op[str | None]:
        """Proof: the parcel's file lies in `out`, or was fetched."""
        yield from ()
        with _work(access) as folder:
            return parcel.reference if folder.was_told(_safe(parcel.reference)) else None


@contextlib.contextmanager
def _work(access: Access) -> Iterator[Folder]:
    """Alone on the account's folder; what the disk says becomes a sentence."""
    folder = Folder(str(access.config["folder"]))
    try:
        for attempt in range(3):
            try:
                with folder.locked():
                    yield folder
                return
            except folders.Busy:
                if attempt == 2:
                    raise
                time.sleep(0.02)
    except folders.Busy as busy:
        raise ChannelError(Retry.TRANSIENT, str(busy), retry_after=1.0) from busy
    except UserError as error:
        raise ChannelError(Retry.REJECTED, error.message) from error
    except OSError as error:
        raise ChannelError(
            Retry.TRANSIENT,
            f"the folder channels/{folder.name} cannot be used: {error.strerror or 'the disk refuses it'}",
        ) from error


def _told(items: Sequence[PushItem]) -> dict[str, list[Any]]:
    return {item.external_id: [item.external_sku, item.quantity] for item in items}


def _current(shown: Mapping[str, Any], memory: Mapping[str, Any]) -> dict[str, Any]:
    """Without offers that the partner no longer names."""
    if memory["listings"] is None:
        return dict(shown)
    named = {one[0] for one in memory["listings"]}
    return {key: one for key, one in shown.items() if key in named}


def _numbered(name: str, memory: dict[str, Any]) -> str:
    """stock-20261126T141503-000007.csv: names sort in the order in which they are to be read."""
    memory["counter"] += 1
    stem, ending = name.rsplit(".", 1)
    return f"{stem}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{memory['counter']:06d}.{ending}"


def _numbers(folder: Folder, name: str, newest: str) -> list[str]:
    """Numbered files of this name that wait in `out`, but for the newest."""
    stem, ending = name.rsplit(".", 1)
    pattern = re.compile(rf"{re.escape(stem)}-\d{{8}}T\d{{6}}-\d{{6,}}\.{re.escape(ending)}\Z")
    return [one.name for one in folder.waiting() if one.name != newest and pattern.match(one.name)]


def _safe(reference: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "_", reference)[:60]


register(Files())
