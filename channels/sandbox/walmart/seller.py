"""A seller account: orders by line and quantity, stock by ship node, feeds, returns and subscriptions."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from channels.sandbox.http import Answer
from channels.sandbox.shop import Item, Line, Order, Return, Shop
from channels.sandbox.walmart.contract import EVENTS

HOST = "marketplace.walmartapis.com"
TOKEN_SECONDS = 900
_EVENT_OF = {
    "created": "PO_CREATED", "paid": "PO_CREATED", "cancelled": "PO_LINE_AUTOCANCELLED",
    "cancel_requested": "ORDER_INTENT_TO_CANCEL", "return": "RETURN_NOTIFICATIONS",
}  # fmt: skip


def ms(moment: float) -> int:
    return int(moment * 1000)


def iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def number(text: str | Decimal) -> float | int:
    """Money as the platform writes it: a JSON number, not a text."""
    value = Decimal(text)
    return int(value) if value == value.to_integral_value() else float(value)


def each(units: int) -> dict[str, Any]:
    return {"unit": "EACH", "amount": units}


def quantity(units: int) -> dict[str, str]:
    return {"unitOfMeasurement": "EACH", "amount": str(units)}


class WalmartError(Exception):
    """A refusal as the gateway writes it."""

    def __init__(self, status: int, code: str, message: str, field_name: str = "data") -> None:
        super().__init__(message)
        self.status, self.code, self.field = status, code, field_name

    def answer(self) -> Answer:
        error: dict[str, Any] = {
            "code": self.code, "field": self.field, "description": str(self), "info": str(self), "severity": "ERROR",
            "category": "DATA" if self.status == 400 else "REQUEST", "causes": [], "errorIdentifiers": {},
        }  # fmt: skip
        return Answer.json({"errors": {"error": [error]}}, self.status)


@dataclass
class Hook:
    id: str
    event: str
    url: str
    auth: dict[str, str]
    status: str = "ACTIVE"


@dataclass
class Feed:
    id: str
    kind: str
    at: float
    ready_at: float
    rows: list[dict[str, str]] = field(default_factory=list)  # sku, status, error


@dataclass
class WalmartSeller(Shop):
    tokens: dict[str, float] = field(default_factory=dict)  # access token → moment it dies
    hooks: dict[str, Hook] = field(default_factory=dict)
    feeds: dict[str, Feed] = field(default_factory=dict)
    acknowledged: dict[str, float] = field(default_factory=dict)  # by order id
    comments: dict[str, dict[str, str]] = field(
        default_factory=dict
    )  # order id → line id → comment of the last refund
    used: dict[str, list[float]] = field(default_factory=dict)  # moments of the calls of an operation

    # --- identity -----------------------------------------------------------------------------------
    @property
    def hosts(self) -> list[str]:
        return [HOST]

    def new_order_identity(self) -> tuple[str, int, str]:
        serial = self.world.serial("walmart_order")
        return str(1_796_277_000_000 + serial), serial, str(5_281_956_000_000 + serial)

    def describe(self) -> dict[str, Any]:
        return {
            "credentials": self.credentials,
            "ship_nodes": list(self.locations),
            "webhooks": [vars(hook) for hook in self.hooks.values()],
            "feeds": [vars(feed) for feed in self.feeds.values()],
            "acknowledged": list(self.acknowledged),
        }

    def expire_tokens(self) -> int:
        count = len(self.tokens)
        self.tokens.clear()
        return count

    def new_token(self) -> str:
        token = hashlib.sha256(f"{self.id}:{self.world.serial('walmart_token')}".encode()).hexdigest()
        self.tokens[token] = self.world.now() + TOKEN_SECONDS
        return token

    def failure(self, status: int) -> Answer:
        return WalmartError(
            status, "SYSTEM_ERROR.GMP_GATEWAY_API", "Internal error, please try later"
        ).answer()

    def throttled(self, operation: str) -> Answer:
        """The gateway tells when the bucket is filled again, in milliseconds; it sends no Retry-After."""
        refused = WalmartError(
            429, "REQUEST_THRESHOLD_VIOLATED.GMP_GATEWAY_API", "Too many requests"
        ).answer()
        refused.headers |= {
            "x-current-token-count": "0", "x-next-replenishment-time": str(ms(self.world.now() + 2)),
        }  # fmt: skip
        return refused

    def budget(self, operation: str) -> tuple[bool, dict[str, str]]:
        """(allowed, headers). `settings["budgets"]` = {operation: calls per minute}; nothing said = 600."""
        limit = int(self.settings.get("budgets", {}).get(operation, 600))
        at = self.world.now()
        recent = [moment for moment in self.used.get(operation, ()) if moment > at - 60]
        allowed = len(recent) < limit
        self.used[operation] = [*recent, at] if allowed else recent
        left = max(0, limit - len(self.used[operation]))
        back = self.used[operation][0] + 60 if self.used[operation] else at
        return allowed, {"x-current-token-count": str(left), "x-next-replenishment-time": str(ms(back))}

    # --- what it shows ------------------------------------------------------------------------------
    def visible(self) -> list[Order]:
        """Walmart shows no order before it is paid."""
        return [order for order in self.orders.values() if order.payment == "paid"]

    def numbered(self, order: Order) -> dict[str, Line]:
        return {str(position): line for position, line in enumerate(order.lines, 1)}

    def money_of(self, order: Order, line: Line) -> tuple[Decimal, Decimal, Decimal]:
        """(goods, tax, shipping) of a whole line; shipping stands with the first line."""
        goods = Decimal(line.price) * line.quantity - Decimal(line.discount)
        first = order.lines[0] is line
        return goods, Decimal(line.tax), Decimal(order.shipping_price) if first else Decimal(0)

    def refunded(self, order: Order, line: Line) -> Decimal:
        return sum(
            (
                Decimal(one.amount)
                for refund in order.refunds
                for one in refund.lines
                if one.line_id == line.id
            ),
            Decimal(0),
        )

    def statuses(self, order: Order, line: Line) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        if line.open > 0:
            waiting = "Acknowledged" if order.id in self.acknowledged else "Created"
            rows.append({"status": waiting, "statusQuantity": quantity(line.open)})
        goods, tax, shipping = self.money_of(order, line)
        back = self.refunded(order, line)
        gone = "Delivered" if order.delivered_at else "Shipped"
        if back and back >= goods + tax:
            gone = "Refund"
        for done in order.fulfilments:
            if done.lines.get(line.id):
                known = done.carrier if done.service != "other" else ""
                rows.append(
                    {
                        "status": gone,
                        "statusQuantity": quantity(done.lines[line.id]),
                        "trackingInfo": {
                            "shipDateTime": ms(done.ship_time or done.at),
                            "carrierName": {"carrier": known} if known else {"otherCarrier": done.carrier},
                            "methodCode": order.shipping_title,
                            "trackingNumber": done.tracking[0] if done.tracking else "",
                            **({"trackingURL": done.urls[0]} if done.urls else {}),
                        },
                    }
                )
        if line.cancelled:
            rows.append(
                {
                    "status": "Cancelled", "statusQuantity": quantity(line.cancelled),
                    "cancellationReason": line.cancel_reason or "CUSTOMER_REQUESTED_SELLER_TO_CANCEL",
                }
            )  # fmt: skip
        return rows

    def show_line(self, order: Order, position: str, line: Line) -> dict[str, Any]:
        goods, tax, shipping = self.money_of(order, line)

        def charge(kind: str, name: str, amount: Decimal, its_tax: Decimal) -> dict[str, Any]:
            return {
                "chargeType": kind,
                "chargeName": name,
                "chargeAmount": {"currency": order.currency, "amount": number(amount)},
                "tax": {
                    "taxName": "Tax1",
                    "taxAmount": {"currency": order.currency, "amount": number(its_tax)},
                },
            }

        charges = [charge("PRODUCT", "ItemPrice", goods, tax)]
        if shipping:
            charges.append(charge("SHIPPING", "Shipping", shipping, Decimal(0)))
        shown: dict[str, Any] = {
            "lineNumber": position,
            "item": {"productName": line.title, "sku": line.sku},
            "charges": {"charge": charges},
            "orderLineQuantity": quantity(line.quantity),
            "statusDate": ms(order.updated_at),
            "orderLineStatuses": {"orderLineStatus": self.statuses(order, line)},
            "fulfillment": {"fulfillmentOption": "S2H", "shipMethod": "VALUE"},
        }
        if line.cancel_request and line.open:
            shown["intentToCancel"] = "true"
        comment = self.comments.get(order.id, {}).get(line.id)
        if comment is not None:
            refund = next(
                one for one in reversed(order.refunds) if any(part.line_id == line.id for part in one.lines)
            )
            back = next(part.amount for part in refund.lines if part.line_id == line.id)
            shown["refund"] = {
                "refundId": refund.id,
                "refundComments": comment,
                "refundCharges": {
                    "refundCharge": [
                        {
                            "refundReason": refund.reason or "Others",
                            "charge": {
                                "chargeType": "PRODUCT",
                                "chargeName": "ItemPrice",
                                "chargeAmount": {"currency": order.currency, "amount": number(f"-{back}")},
                            },
                        }
                    ]
                },
            }
        return shown

    def show(self, order: Order) -> dict[str, Any]:
        address = order.address
        return {
            "purchaseOrderId": order.id,
            "customerOrderId": order.name,
            "customerEmailId": order.email or "buyer@relay.example",
            "orderType": "REGULAR",
            "orderDate": ms(order.created_at),
            "shippingInfo": {
                "phone": order.phone or "5550100",
                "estimatedDeliveryDate": ms(order.deliver_by),
                "estimatedShipDate": ms(order.ship_by),
                "methodCode": order.shipping_title,
                "postalAddress": {
                    "name": address.get("name", ""),
                    "address1": address.get("address1", ""),
                    "address2": address.get("address2", ""),
                    "city": address.get("city", ""),
                    "state": address.get("province_code", ""),
                    "postalCode": address.get("zip", ""),
                    "country": "USA",
                    "addressType": "RESIDENTIAL",
                },
            },
            "orderLines": {
                "orderLine": [
                    self.show_line(order, position, line) for position, line in self.numbered(order).items()
                ]
            },
            "shipNode": {
                "type": "WFSFulfilled" if order.fulfilled_by == "channel" else "SellerFulfilled",
                "id": order.assignments[0].location_id if order.assignments else "",
            },
        }

    def show_return(self, order: Order, back: Return) -> dict[str, Any]:
        positions = {line.id: position for position, line in self.numbered(order).items()}
        state = {"CLOSED": "COMPLETED", "COMPLETED": "COMPLETED", "DELIVERED": "DELIVERED"}.get(
            back.status, "INITIATED"
        )
        return {
            "returnOrderId": back.id,
            "customerEmailId": order.email or "buyer@relay.example",
            "customerOrderId": order.name,
            "returnOrderDate": iso(back.at),
            "returnOrderLines": [
                {
                    "returnOrderLineNumber": position,
                    "salesOrderLineNumber": int(positions[line.line_id]),
                    "purchaseOrderId": order.id,
                    "purchaseOrderLineNumber": int(positions[line.line_id]),
                    "returnReason": line.reason,
                    "item": {
                        "sku": order.line(line.line_id).sku,
                        "productName": order.line(line.line_id).title,
                    },
                    "quantity": {"unitOfMeasure": "EACH", "measurementValue": line.quantity},
                    "returnExpectedFlag": True,
                    "isKeepIt": False,
                    "status": state,
                    "statusTime": iso(back.at),
                }
                for position, line in enumerate(back.lines, 1)
            ],
            "returnChannel": {"channelName": "ONLINE"},
        }

    def show_stock(self, item: Item) -> dict[str, Any]:
        return {
            "sku": item.sku,
            "nodes": [
                {
                    "shipNode": node,
                    "inputQty": each(max(0, stock.available) + stock.committed),
                    "availToSellQty": each(max(0, stock.available)),
                    "reservedQty": each(stock.committed),
                }
                for node, stock in item.stock.items()
            ],
        }

    def show_hook(self, hook: Hook) -> dict[str, Any]:
        return {
            "eventType": hook.event, "subscriptionId": hook.id, "partnerId": "10000000359", "eventVersion": "V1",
            "resourceName": EVENTS[hook.event], "eventUrl": hook.url, "status": hook.status,
            "headers": {"content-type": "application/json"}, "authDetails": hook.auth,
        }  # fmt: skip

    # --- news ---------------------------------------------------------------------------------------
    def announce(self, event: str, order: Order, **facts: Any) -> None:
        if order.payment != "paid":
            return
        payload: dict[str, Any] = {"purchaseOrderId": order.id, "customerOrderId": order.name}
        if event == "return":
            payload["returnOrderId"] = facts["back"].id
        self.send(_EVENT_OF.get(event, "ORDER_MANAGEMENT_EVENT"), payload, order.id)

    def announce_stock(self, item: Item, location_id: str) -> None:
        stock = item.stock.get(location_id)
        if stock is not None and stock.available <= 0:
            self.send("INVENTORY_OOS", {"sku": item.sku, "shipNode": location_id}, "")

    def send(self, event: str, payload: dict[str, Any], order_id: str) -> int:
        sent = 0
        for hook in list(self.hooks.values()):
            if hook.event != event or hook.status != "ACTIVE":
                continue
            body = {
                "eventType": event, "eventVersion": "V1", "resourceName": EVENTS[event], "partnerId": "10000000359",
                "subscriptionId": hook.id, "eventTime": iso(self.world.now()), "payload": payload,
            }  # fmt: skip
            raw = json.dumps(body, separators=(",", ":")).encode()
            headers = {"Content-Type": "application/json", **self.proof(hook, raw)}
            self.world.sender.post(self, event, hook.url, headers, raw, order_id=order_id)
            sent += 1
        return sent

    def proof(self, hook: Hook, raw: bytes) -> dict[str, str]:
        """The headers by which the receiver knows us, as the subscription asks for."""
        if hook.auth.get("authMethod") == "BASIC_AUTH":
            pair = f"{hook.auth.get('userName', '')}:{hook.auth.get('password', '')}".encode()
            name = hook.auth.get("authHeaderName", "Authorization")
            return {name: "Basic " + base64.b64encode(pair).decode()}
        if hook.auth.get("authMethod") == "HMAC":
            parts = urlsplit(hook.url)
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            at = str(int(self.world.now()))
            text = "\n".join(("POST", path, at, hashlib.sha256(raw).hexdigest()))
            digest = hmac.new(
                hook.auth.get("clientSecret", "").encode(), text.encode(), hashlib.sha256
            ).digest()
            return {
                "WM_SEC.TIMESTAMP": at, "WM_SEC.KEY_ID": hook.id,
                "WM_SEC.SIGNATURE": base64.b64encode(digest).decode(),
            }  # fmt: skip
        return {}
