"""A shop with a REST interface of its own, reached by a mapping that a person made: no code, see `mapping`.

Every request goes to the base address that was typed in, through the guard for such addresses.
"""

from __future__ import annotations

import base64
import datetime as dt
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

from channels.connectors.base import (
    UNREADABLE,
    Access,
    Capabilities,
    ChannelError,
    Confirmation,
    Connector,
    FieldSpec,
    ListingPage,
    ListingRef,
    Notification,
    Op,
    OrderPage,
    PushItem,
    PushResult,
    RemoteListing,
    Retry,
    ShopFacts,
    Subscription,
    register,
)
from channels.connectors.custom import mapping as maps
from channels.connectors.custom import webhooks
from channels.connectors.custom.mapping import Unfit
from oms.core.egress import Refused, check_user_url
from oms.core.errors import UserError
from oms.core.http import HttpAnswer, HttpRequest
from oms.core.limits import Rate
from oms.orders.drafts import OrderDraft

#: an unknown shop's limit; its 429 and Retry-After slow this down further
RATE = Rate(5, 10)
AUTH = ("none", "bearer", "header", "basic", "query")
BATCH = 20
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,60}\Z")


class Custom(Connector):
    key = "custom"
    name = "Custom REST shop"
    capabilities = Capabilities(
        quantity_batch=BATCH,
        quantity_connections=2,
        webhooks=True,
        order_batch=BATCH,
        poll_seconds=120,
        overlap_seconds=3600,
        other_carriers=True,
        mapped=True,
    )
    config_fields = (
        FieldSpec("base_url", "Base address", help="https://api.shop.example.com/v1"),
        FieldSpec(
            "auth", "How we prove who we are", required=False, default="bearer",
            help="none; bearer: Authorization: Bearer …; header: a header of its own; basic: user and password; "
            "query: a parameter in the address",
        ),
        FieldSpec(
            "auth_name", "Name of the header or parameter", required=False,
            help="for header and query: X-Api-Key; for basic: the user name",
        ),
    )  # fmt: skip
    credential_fields = (
        FieldSpec("secret", "Token, key or password", secret=True, required=False, help="empty for none"),
        FieldSpec("webhook_secret", "Secret of the notices", secret=True, required=False),
    )

    def check_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        url = str(config.get("base_url", "")).strip().rstrip("/")
        if url and "://" not in url:
            url = f"https://{url}"
        try:
            check_user_url(url)
        except Refused as refused:
            raise UserError(f"base_url: {refused}", field="base_url") from refused
        if urlsplit(url).query or urlsplit(url).fragment:
            raise UserError(
                "base_url: give the address without anything after ? or #; parameters belong to each address.",
                field="base_url",
            )
        auth = str(config.get("auth") or "bearer").strip().lower()
        if auth not in AUTH:
            raise UserError(f"auth: choose one of {', '.join(AUTH)}.", field="auth")
        name = str(config.get("auth_name") or "").strip()
        if auth in ("header", "query") and not _NAME.match(name):
            raise UserError(
                f"auth_name: write the name of the {'header' if auth == 'header' else 'parameter'}, such as X-Api-Key.",
                field="auth_name",
            )
        if auth == "basic" and (not name or ":" in name):
            raise UserError("auth_name: write the user name; it holds no colon.", field="auth_name")
        mapping = maps.checked(config.get("mapping") or {})
        return {**config, "base_url": url, "auth": auth, "auth_name": name, "mapping": mapping}

    def notifies(self, config: Mapping[str, Any]) -> bool:
        return bool((config.get("mapping") or {}).get("hook_header"))

    # --- talking -------------------------------------------------------------------------------------
    def _ask(
        self,
        access: Access,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        idempotent: bool = False,
    ) -> Op[HttpAnswer]:
        """One request below the base address; `path` begins with a slash, or is a whole address of the same shop."""
        base = str(access.config["base_url"])
        url = path if "://" in path.partition("?")[0] else f"{base}{path}"
        if urlsplit(url)[:2] != urlsplit(base)[:2]:
            raise ChannelError(
                Retry.REJECTED, "the shop names a further page at another host; it is not followed"
            )
        kind, name = access.config.get("auth", "bearer"), str(access.config.get("auth_name", ""))
        secret = str(access.credentials.get("secret", ""))
        headers, query = {"Accept": "application/json"}, dict(params or {})
        if kind == "bearer":
            headers["Authorization"] = f"Bearer {secret}"
        elif kind == "basic":
            headers["Authorization"] = f"Basic {base64.b64encode(f'{name}:{secret}'.encode()).decode()}"
        elif kind == "header":
            headers[name] = secret
        elif kind == "query":
            query[name] = secret
        return (
            yield HttpRequest(
                account_key=access.key, method=method, url=url, headers=headers, params=query or None, json=json,
                timeout=20.0, idempotent=idempotent, user_url=True, rate=RATE,
            )
        )  # fmt: skip

    def _read(
        self, access: Access, path: str, params: Mapping[str, Any] | None = None
    ) -> Op[tuple[Any, HttpAnswer]]:
        answer = yield from self._ask(access, "GET", path, params=params)
        if not answer.content.strip():  # 204: nothing there
            return [], answer
        try:
            return maps.parse_json(answer.content, "the answer"), answer
        except Unfit as error:
            raise ChannelError(Retry.REJECTED, str(error)) from error

    def answer(self, access: Access, path: str) -> Op[bytes]:
        """What stands at an address below the base address, as it came: a sample to map by."""
        return (yield from self._ask(access, "GET", path)).content

    def describe_push(self, config: Mapping[str, Any], item: PushItem) -> tuple[str, str, Any]:
        """(method, address, body) of a request that would write one quantity; nothing is sent."""
        mapping: Mapping[str, Any] = config.get("mapping") or {}
        values = _stock_values(item)
        values["items"] = [maps.fill_body(mapping.get("stock_item") or "{}", values)]
        return (
            mapping.get("stock_method", "PUT"), maps.fill_path(mapping["stock_path"], values),
            maps.fill_body(mapping.get("stock_body", ""), values),
        )  # fmt: skip

    def describe_shipment(self, config: Mapping[str, Any], parcel: Confirmation) -> tuple[str, str, Any]:
        """(method, address, body) of a request that confirms a parcel."""
        mapping: Mapping[str, Any] = config.get("mapping") or {}
        values: dict[str, Any] = {
            "order_id": parcel.order_external_id, "order_number": parcel.order_number or parcel.order_external_id,
            "tracking_number": parcel.tracking_number, "tracking_url": parcel.tracking_url, "carrier": parcel.carrier,
            "carrier_name": parcel.carrier_name or parcel.carrier, "service": parcel.service,
            "shipped_at": parcel.shipped_at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "reference": parcel.reference,
        }  # fmt: skip
        path = maps.fill_path(mapping["ship_path"], values)
        values["lines"] = [
            maps.fill_body(
                mapping.get("ship_line") or "{}",
                {
                    "line_id": _number(one.line_external_id),
                    "quantity": one.quantity,
                    "quantity_text": str(one.quantity),
                },
            )
            for one in parcel.items
        ]
        return mapping.get("ship_method", "POST"), path, maps.fill_body(mapping.get("ship_body", ""), values)

    @staticmethod
    def _mapping(access: Access, *needed: str) -> Mapping[str, Any]:
        """The mapping, when it is complete for orders or has the fields that are asked for."""
        mapping: Mapping[str, Any] = access.config.get("mapping") or {}
        gaps = (
            [maps.BY_NAME[name].label for name in needed if not mapping.get(name)]
            if needed
            else maps.missing(mapping)
        )
        if gaps:
            raise ChannelError(Retry.REJECTED, f"The mapping of this channel still needs: {', '.join(gaps)}.")
        return mapping

    def probe(self, access: Access) -> Op[ShopFacts]:
        """Reads one page of orders; writes nothing."""
        yield from self.list_orders(access, "", "")
        mapping = self._mapping(access)
        return ShopFacts(
            urlsplit(str(access.config["base_url"])).hostname or "", mapping.get("fixed_currency", "")
        )

    # --- orders --------------------------------------------------------------------------------------
    def list_orders(self, access: Access, since: str, cursor: str) -> Op[OrderPage]:
        mapping = self._mapping(access)
        rows, following = yield from self.page(access, since, cursor)
        drafts, refused, newest = [], 0, since
        for row in rows:
            try:
                draft = maps.order_draft(mapping, row)
            except UNREADABLE:
                refused += 1
                continue
            if draft is not None:
                drafts.append(draft)
                at = draft.channel_updated_at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                newest = max(newest, at)
        return OrderPage(tuple(drafts), following, newest, refused)

    def page(self, access: Access, since: str, cursor: str) -> Op[tuple[list[dict[str, Any]], str]]:
        """The orders of one page as the shop writes them, and the cursor of the next; empty = it was the last."""
        mapping = self._mapping(access)
        paging, params = mapping.get("paging", "none"), {}
        if since and mapping.get("since_param"):
            params[mapping["since_param"]] = maps.since_text(since, mapping.get("since_format", "iso"))
        path = mapping["orders_path"]
        if paging == "link" and cursor:
            path, params = cursor, {}
        elif paging == "cursor" and cursor:
            params[mapping["page_param"]] = cursor
        elif paging in ("page", "offset"):
            cursor = cursor or ("0" if paging == "offset" else mapping.get("first_page", "1"))
            params[mapping["page_param"]] = cursor
        body, answer = yield from self._read(access, path, params)
        try:
            rows = maps.rows_of(body, mapping.get("orders_list", ""), "orders_list") if body != [] else []
            following = _following(mapping, cursor, rows, body, answer, f"{access.config['base_url']}{path}")
        except Unfit as error:
            raise ChannelError(Retry.REJECTED, str(error)) from error
        return rows, following

    def get_orders(self, access: Access, external_ids: Sequence[str]) -> Op[list[OrderDraft]]:
        mapping = self._mapping(access, "order_path", "id", "lines")
        drafts = []
        for number in dict.fromkeys(external_ids):
            order = yield from self._order(access, number)
            if order is not None:
                draft = maps.order_draft(mapping, order)
                if draft is not None:
                    drafts.append(draft)
        return drafts

    def _order(self, access: Access, number: str) -> Op[dict[str, Any] | None]:
        mapping = self._mapping(access, "order_path")
        odd = maps.unknown_holes(mapping["order_path"], maps.ORDER_HOLES)
        if odd:
            raise ChannelError(
                Retry.REJECTED,
                f"Address of one order: {{{odd[0]}}} is not known before the order is read; use {{order_id}}.",
            )
        path = maps.fill_path(mapping["order_path"], {"order_id": number})
        try:
            body, _ = yield from self._read(access, path)
        except ChannelError as error:
            if error.code == "404":
                return None
            raise
        order = maps.look(body, mapping.get("order_root", ""))
        if not isinstance(order, dict):
            raise ChannelError(
                Retry.REJECTED, f"order_root: {maps.short(order)} stands where the order is expected"
            )
        return order

    # --- stock ---------------------------------------------------------------------------------------
    def push_quantities(self, access: Access, items: Sequence[PushItem]) -> Op[list[PushResult]]:
        """One request for all where the body has `{items}`, else one per SKU; then one refusal is its own."""
        mapping = self._mapping(access, "stock_path")
        template = mapping.get("stock_body", "")
        batched = "{items}" in template
        results: dict[int, PushResult] = {}
        for group in [list(items)] if batched else [[item] for item in items]:
            values = _stock_values(group[0])
            if batched:
                values["items"] = [
                    maps.fill_body(mapping.get("stock_item") or "{}", _stock_values(one)) for one in group
                ]
            stopped: ChannelError | None = None
            try:
                yield from self._ask(
                    access, mapping.get("stock_method", "PUT"), maps.fill_path(mapping["stock_path"], values),
                    json=maps.fill_body(template, values), idempotent=True,
                )  # fmt: skip
            except ChannelError as error:
                if error.kind in (Retry.AUTH, Retry.THROTTLED) and not results:
                    raise
                stopped = error
            for one in group:
                results[one.listing_id] = (
                    PushResult(one.listing_id)
                    if stopped is None
                    else PushResult(one.listing_id, stopped.kind, stopped.message, stopped.retry_after)
                )
            if stopped is not None and stopped.kind in (Retry.AUTH, Retry.THROTTLED):
                for one in items:  # the rest would be refused as well
                    results.setdefault(
                        one.listing_id,
                        PushResult(one.listing_id, stopped.kind, stopped.message, stopped.retry_after),
                    )
                break
        return [results[item.listing_id] for item in items]

    def read_quantities(self, access: Access, refs: Sequence[ListingRef]) -> Op[dict[int, int]]:
        """From the list, or one request per SKU where the address names it. Without an address nothing is known."""
        mapping: Mapping[str, Any] = access.config.get("mapping") or {}
        path = mapping.get("stock_read_path", "")
        if not path or not mapping.get("stock_quantity"):
            return {}
        if not maps.unknown_holes(path, ()):
            rows = yield from self._stock_rows(access, path)
            shown = dict(rows)
            return {ref.listing_id: shown[ref.external_sku] for ref in refs if ref.external_sku in shown}
        found = {}
        for ref in refs:
            values = {"sku": ref.external_sku, "listing_id": ref.external_id}
            try:
                rows = yield from self._stock_rows(access, maps.fill_path(path, values), ref.external_sku)
            except ChannelError as error:
                if error.code == "404":
                    continue
                raise
            for sku, quantity in rows:
                if sku == ref.external_sku:
                    found[ref.listing_id] = quantity
        return found

    def _stock_rows(self, access: Access, path: str, sku: str = "") -> Op[list[tuple[str, int]]]:
        """(SKU, quantity) of a stock answer; rows that cannot be read are left out."""
        mapping = self._mapping(access, "stock_quantity")
        body, _ = yield from self._read(access, path)
        try:
            rows = maps.rows_of(body, mapping.get("stock_list", ""), "stock_list") if body != [] else []
        except Unfit as error:
            raise ChannelError(Retry.REJECTED, str(error)) from error
        found = []
        for row in rows:
            try:
                code = (
                    maps.text_of(maps.look(row, mapping["stock_key"]), "stock_key")
                    if mapping.get("stock_key")
                    else sku
                )
                found.append(
                    (code or sku, maps.units_of(maps.look(row, mapping["stock_quantity"]), "stock_quantity"))
                )
            except Unfit:
                continue
        return found

    def list_listings(self, access: Access, cursor: str) -> Op[ListingPage]:
        """The products, where their address is given; else the stock list names the listings by SKU."""
        mapping: Mapping[str, Any] = access.config.get("mapping") or {}
        if not mapping.get("products_path"):
            path = mapping.get("stock_read_path", "")
            if not path or maps.unknown_holes(path, ()) or not mapping.get("stock_key"):
                raise ChannelError(
                    Retry.REJECTED,
                    "The mapping names no address of the products and none of a stock list: listings cannot be read.",
                )
            rows = yield from self._stock_rows(access, path)
            return ListingPage(tuple(RemoteListing(sku, sku, quantity=units) for sku, units in rows if sku))
        self._mapping(access, "product_sku")
        body, answer = yield from self._read(access, cursor or mapping["products_path"])
        found = []
        try:
            for row in (
                maps.rows_of(body, mapping.get("products_list", ""), "products_list") if body != [] else []
            ):
                sku = maps.text_of(maps.look(row, mapping["product_sku"]), "product_sku")
                number = (
                    maps.text_of(maps.look(row, mapping["product_id"]), "product_id")
                    if mapping.get("product_id")
                    else sku
                )
                shown = (
                    maps.look(row, mapping["product_quantity"]) if mapping.get("product_quantity") else None
                )
                title = maps.look(row, mapping["product_title"]) if mapping.get("product_title") else ""
                if number:
                    quantity = maps.units_of(shown, "product_quantity") if shown is not None else None
                    found.append(
                        RemoteListing(number, sku, maps.text_of(title, "product_title"), quantity=quantity)
                    )
        except Unfit as error:
            raise ChannelError(Retry.REJECTED, str(error)) from error
        return ListingPage(tuple(found), _link(answer, f"{access.config['base_url']}/"))

    # --- effects -------------------------------------------------------------------------------------
    def confirm_shipment(self, access: Access, parcel: Confirmation) -> Op[str]:
        """Told once: where the order shows its tracking numbers, it is looked at first."""
        mapping = self._mapping(access, "ship_path")
        if mapping.get("ship_tracking"):
            known = yield from self.read_shipment(access, parcel)
            if known:
                return known
        method, path, body = self.describe_shipment(access.config, parcel)
        yield from self._ask(access, method, path, json=body)
        return parcel.reference

    def read_shipment(self, access: Access, parcel: Confirmation) -> Op[str | None]:
        """Proof: the order shows the tracking number, or, where no path is mapped, reads as shipped."""
        mapping = self._mapping(access, "id", "lines")
        order = yield from self._order(access, parcel.order_external_id)
        if order is None:
            return None
        if mapping.get("ship_tracking"):
            return (
                parcel.reference if parcel.tracking_number in maps.tracking_numbers(mapping, order) else None
            )
        meaning = (mapping.get("statuses") or {}).get(maps.status_word(mapping, order))
        return parcel.reference if meaning in ("shipped", "delivered") else None

    # --- notifications -------------------------------------------------------------------------------
    def parse_push(self, access: Access, headers: Mapping[str, str], raw: bytes) -> list[Notification]:
        return webhooks.parse(
            access.config.get("mapping") or {},
            str(access.credentials.get("webhook_secret", "")),
            headers,
            raw,
        )

    def kind_of(self, topic: str) -> str:
        return "order"

    def ensure_subscriptions(self, access: Access, address: str) -> Op[list[Subscription]]:
        """A person sets notices up in the shop: its interface for that is not part of a mapping."""
        yield from ()
        return []


def _number(text: str) -> int | str:
    """Line ids that were numbers are sent as numbers."""
    return int(text) if re.fullmatch(r"[1-9]\d{0,17}", text) else text


def _stock_values(item: PushItem) -> dict[str, Any]:
    return {
        "sku": item.external_sku, "listing_id": item.external_id, "quantity": item.quantity,
        "quantity_text": str(item.quantity),
    }  # fmt: skip


def _following(
    mapping: Mapping[str, Any], cursor: str, rows: Sequence[Any], body: Any, answer: HttpAnswer, asked: str
) -> str:
    """Where the next page is; empty when this one is the last. A page that holds nothing always is."""
    paging = mapping.get("paging", "none")
    if paging == "none" or not rows:
        return ""
    told = maps.look(body, mapping["cursor_path"]) if mapping.get("cursor_path") else None
    if paging == "cursor":
        following = maps.text_of(told, "cursor_path")
        return "" if following == cursor else following
    if paging == "link":
        named = maps.text_of(told, "cursor_path")
        return urljoin(asked, named) if named else _link(answer, asked)
    size = int(mapping.get("page_size") or 0)
    first = 0 if paging == "offset" or mapping.get("first_page") == "0" else 1
    at = int(cursor)
    read = at + len(rows) if paging == "offset" else (at - first) * (size or len(rows)) + len(rows)
    if mapping.get("total_path"):
        total = maps.look(body, mapping["total_path"])
        if total is not None and read >= maps.units_of(total, "total_path"):
            return ""
    elif size and len(rows) < size:
        return ""
    return str(at + len(rows)) if paging == "offset" else str(at + 1)


def _link(answer: HttpAnswer, asked: str) -> str:
    """The address with rel="next" of a Link header (RFC 8288)."""
    for part in re.split(r",\s*(?=<)", answer.headers.get("link", "")[:4000]):
        found = re.match(r'\s*<([^>]{1,2000})>\s*;.*?\brel="?next"?', part)
        if found:
            return urljoin(asked, found.group(1))
    return ""


register(Custom())
