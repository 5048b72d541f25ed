"""A seller account: its tokens, queue, destinations and subscriptions, feeds, and what it announces."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from channels.sandbox.http import Answer
from channels.sandbox.shop import VOLATILE, Fulfilment, Item, Order, SandboxError, Shop

MARKETPLACES = {
    "ATVPDKIKX0DER": ("na", "Amazon.com", "US", "USD", "en_US", "www.amazon.com"),
    "A2EUQ1WTGCTBG2": ("na", "Amazon.ca", "CA", "CAD", "en_CA", "www.amazon.ca"),
    "A1F83G8C2ARO7P": ("eu", "Amazon.co.uk", "GB", "GBP", "en_GB", "www.amazon.co.uk"),
    "A1PA6795UKMFR9": ("eu", "Amazon.de", "DE", "EUR", "de_DE", "www.amazon.de"),
    "A1VC38T7YXB528": ("fe", "Amazon.co.jp", "JP", "JPY", "ja_JP", "www.amazon.co.jp"),
}
FULFILLMENT_CODES = {"na": "AMAZON_NA", "eu": "AMAZON_EU", "fe": "AMAZON_JP"}
UPLOADS = "tortuga-prod-{region}.s3.amazonaws.com"
NOTIFICATION_TYPES = (
    "FBA_INVENTORY_AVAILABILITY_CHANGES",
    "FEED_PROCESSING_FINISHED",
    "FULFILLMENT_ORDER_STATUS",
    "LISTINGS_ITEM_MFN_QUANTITY_CHANGE",
    "ORDER_CHANGE",
)


def stamp(moment: float) -> str:
    """Amazon's time: ISO 8601 in UTC to the millisecond."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Token:
    expires_at: float
    scope: str = ""  # empty: the seller's own; else a grantless scope


@dataclass
class Destination:
    id: str
    name: str
    arn: str


@dataclass
class Subscription:
    id: str
    type: str
    destination_id: str
    payload_version: str
    directive: dict[str, Any] | None = None


@dataclass
class Message:
    id: str
    body: str
    sent_at: float
    visible_at: float
    first_received_at: float = 0.0
    receives: int = 0
    receipt: str = ""


@dataclass
class Document:
    id: str
    content_type: str
    content: str = ""
    uploaded: bool = False


@dataclass
class Feed:
    id: str
    type: str
    marketplaces: list[str]
    document_id: str
    created_at: float
    due_at: float
    status: str = "IN_QUEUE"
    started_at: float = 0.0
    ended_at: float = 0.0
    result_document_id: str = ""


@dataclass
class OutboundParcel:
    """Units of an outbound order in one parcel, by item id."""

    id: str
    at: float
    lines: dict[str, int]
    carrier: str = ""
    tracking: str = ""
    status: str = "SHIPPED"  # or PENDING: being packed


@dataclass
class Outbound:
    """A Multi-Channel Fulfillment order; `body` as it was created."""

    id: str
    received_at: float
    changed_at: float
    body: dict[str, Any]
    status: str = "New"
    parcels: list[OutboundParcel] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        return self.status in ("New", "Received", "Planning", "Processing")

    @property
    def gone(self) -> int:
        return sum(sum(one.lines.values()) for one in self.parcels if one.status == "SHIPPED")

    def left(self, item_id: str) -> int:
        """Units of an item that have not left."""
        asked = next(
            int(item["quantity"])
            for item in self.body["items"]
            if item["sellerFulfillmentOrderItemId"] == item_id
        )
        return asked - sum(one.lines.get(item_id, 0) for one in self.parcels if one.status == "SHIPPED")


@dataclass
class AmazonSeller(Shop):
    marketplace_id: str = "ATVPDKIKX0DER"
    queue: str = ""
    tokens: dict[str, Token] = field(default_factory=dict)
    destinations: dict[str, Destination] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)  # by notification type
    messages: dict[str, Message] = field(default_factory=dict)  # the queue, by message id
    documents: dict[str, Document] = field(default_factory=dict)
    feeds: dict[str, Feed] = field(default_factory=dict)
    outbound: dict[str, Outbound] = field(default_factory=dict)  # by the seller's id of the order
    buckets: dict[str, tuple[float, float]] = field(default_factory=dict, metadata=VOLATILE)

    # --- identity -----------------------------------------------------------------------------------
    @property
    def region(self) -> str:
        return MARKETPLACES[self.marketplace_id][0]

    @property
    def queue_region(self) -> str:
        return str(self.settings.get("queue_region", "us-east-1"))

    @property
    def queue_url(self) -> str:
        return f"https://sqs.{self.queue_region}.amazonaws.com/000000000000/{self.queue}"

    @property
    def queue_arn(self) -> str:
        return f"arn:aws:sqs:{self.queue_region}:000000000000:{self.queue}"

    @property
    def hosts(self) -> list[str]:
        return [
            f"sellingpartnerapi-{self.region}.amazon.com",
            "api.amazon.com",
            f"sqs.{self.queue_region}.amazonaws.com",
            UPLOADS.format(region=self.region),
        ]

    def new_order_identity(self) -> tuple[str, int, str]:
        number = self.world.serial("amazon_order")
        tail = int(hashlib.sha256(f"{self.seed}:{number}".encode()).hexdigest()[:8], 16) % 10_000_000
        name = f"113-{number:07d}-{tail:07d}"
        return name, number, name

    def describe(self) -> dict[str, Any]:
        return {
            "seller_id": self.id,
            "marketplace_id": self.marketplace_id,
            "region": self.region,
            "endpoint": f"https://sellingpartnerapi-{self.region}.amazon.com",
            "token_url": "https://api.amazon.com/auth/o2/token",
            "credentials": self.credentials,
            "queue_url": self.queue_url,
            "queue_arn": self.queue_arn,
            "queue_depth": len(self.messages),
            "catalogue": [
                {
                    "sku": i.sku,
                    "asin": i.asin,
                    "fnsku": i.fnsku,
                    "fulfilled_by": "merchant" if i.fba is None else "amazon",
                }
                for i in self.items.values()
            ],
            "subscriptions": [vars(subscription) for subscription in self.subscriptions.values()],
        }

    def expire_tokens(self) -> int:
        for token in self.tokens.values():
            token.expires_at = 0.0
        return len(self.tokens)

    # --- the platform's own refusals ----------------------------------------------------------------
    def failure(self, status: int) -> Answer:
        code, text = (
            ("ServiceUnavailable", "Service is temporarily unavailable.")
            if status == 503
            else (
                "InternalFailure",
                "We encountered an internal error. Please try again.",
            )
        )
        return errors(status, code, text)

    def throttled(self, operation: str) -> Answer:
        return errors(429, "QuotaExceeded", "You exceeded your quota for the requested resource.")

    def allowed(self, operation: str, rate: float, burst: int) -> bool:
        """Take one token of the operation's bucket (`rate` per second, at most `burst`)."""
        if not self.settings.get("rate_limits", True):
            return True
        now = self.world.now()
        tokens, at = self.buckets.get(operation, (float(burst), now))
        tokens = min(float(burst), tokens + (now - at) * rate)
        self.buckets[operation] = (tokens - 1 if tokens >= 1 else tokens, now)
        return tokens >= 1

    # --- orders as the platform sees them -----------------------------------------------------------
    @staticmethod
    def status(order: Order) -> str:
        if order.cancelled_at or all(line.quantity == line.cancelled for line in order.lines):
            return "CANCELLED"
        if order.payment != "paid":
            return "PENDING"
        if not any(line.fulfilled for line in order.lines):
            return "UNSHIPPED"
        return "PARTIALLY_SHIPPED" if any(line.open for line in order.lines) else "SHIPPED"

    @property
    def channel_code(self) -> str:
        return FULFILLMENT_CODES[self.region]

    def ship_from_amazon(self, order: Order) -> None:
        """Amazon's own warehouse ships an FBA order."""
        if order.fulfilled_by != "channel":
            raise SandboxError(
                f"Order {order.id} is fulfilled by the merchant; confirm the shipment through the API."
            )
        now = self.world.now()
        for assignment in order.assignments:
            left = {line_id: quantity for line_id, quantity in assignment.remaining.items() if quantity}
            if left:
                number = str(self.world.serial("fulfilment"))
                done = Fulfilment(number, now, now, "", left, [assignment.id], "AMZN_US", [f"TBA{number}"])
                self.fulfil(order, {assignment.id: left}, done)
                for line_id in left:
                    self.announce_stock(self.items[order.line(line_id).sku], "")

    # --- news ---------------------------------------------------------------------------------------
    def announce(self, event: str, order: Order, **facts: Any) -> None:
        if event in ("refunded", "return", "tracking"):
            return
        buyer = event == "cancel_requested"
        kind = "BuyerRequestedChange" if buyer else "OrderStatusChange"
        self.notify(
            "ORDER_CHANGE",
            self.order_change(order, kind, "Buyer Requested Cancel" if buyer else "StatusChange"),
        )

    def order_change(self, order: Order, kind: str, reason: str) -> dict[str, Any]:
        """Payload of ORDER_CHANGE 1.0."""
        status = {
            "PENDING": "Pending",
            "UNSHIPPED": "Unshipped",
            "PARTIALLY_SHIPPED": "PartiallyShipped",
            "SHIPPED": "Shipped",
            "CANCELLED": "Canceled",
        }[self.status(order)]
        programs = (["Prime"] if order.prime else []) + (["Business"] if order.business else [])
        return {
            "OrderChangeNotification": {
                "NotificationLevel": "OrderLevel",
                "SellerId": self.id,
                "AmazonOrderId": order.id,
                "OrderChangeType": kind,
                "OrderChangeTrigger": {"TimeOfOrderChange": stamp(order.updated_at), "ChangeReason": reason},
                "Summary": {
                    "MarketplaceId": self.marketplace_id,
                    "OrderStatus": status,
                    "PurchaseDate": stamp(order.created_at),
                    "DestinationPostalCode": order.address.get("zip") if order.payment == "paid" else None,
                    "FulfillmentType": "AFN" if order.fulfilled_by == "channel" else "MFN",
                    "OrderType": "StandardOrder",
                    "NumberOfItemsShipped": sum(line.fulfilled for line in order.lines),
                    "NumberOfItemsUnshipped": sum(line.open for line in order.lines),
                    "EarliestShipDate": stamp(order.created_at),
                    "LatestShipDate": stamp(order.ship_by),
                    "EarliestDeliveryDate": stamp(order.ship_by),
                    "LatestDeliveryDate": stamp(order.deliver_by),
                    "OrderPrograms": programs,
                    "OrderItems": [
                        {
                            "OrderItemId": line.id,
                            "SellerSKU": line.sku,
                            "SupplySourceId": None,
                            "OrderItemStatus": "Shipped" if line.fulfilled and not line.open else "Unshipped",
                            "Quantity": line.quantity - line.cancelled,
                            "QuantityShipped": line.fulfilled,
                            "IsBuyerRequestedCancel": bool(line.cancel_request),
                        }
                        for line in order.lines
                    ],
                },
            }
        }

    def announce_stock(self, item: Item, location_id: str) -> None:
        if item.fba is None:
            payload = {
                "SellerId": self.id,
                "FulfillmentChannelCode": "DEFAULT",
                "Sku": item.sku,
                "Quantity": max(0, item.stock[location_id].available),
            }
            self.notify("LISTINGS_ITEM_MFN_QUANTITY_CHANGE", payload)
            return
        pool = item.fba
        inventory = {
            "InboundQuantityBreakdown": {
                "Working": pool.get("inbound_working", 0),
                "Shipped": pool.get("inbound_shipped", 0),
                "Receiving": pool.get("inbound_receiving", 0),
            },
            "Fulfillable": pool.get("fulfillable", 0),
            "Unfulfillable": pool.get("unfulfillable", 0),
            "Researching": pool.get("researching", 0),
            "ReservedQuantityBreakdown": {
                "WarehouseProcessing": pool.get("processing", 0),
                "WarehouseTransfer": pool.get("transfer", 0),
                "PendingCustomerOrder": pool.get("pending_order", 0),
            },
            "FutureSupplyBuyable": 0,
            "PendingCustomerOrderInTransit": 0,
        }
        here = {
            "MarketplaceId": self.marketplace_id,
            "ItemName": item.title,
            "FulfillmentInventory": inventory,
            "Stores": [],
        }
        payload = {
            "SellerId": self.id,
            "FNSKU": item.fnsku,
            "ASIN": item.asin,
            "SKU": item.sku,
            "FulfillmentInventoryByMarketplace": [here],
        }
        self.notify("FBA_INVENTORY_AVAILABILITY_CHANGES", payload)

    def notify(self, kind: str, payload: dict[str, Any]) -> bool:
        """Put a notification into the subscribed queue; the account's faults may lose, double or delay it."""
        subscription = self.subscriptions.get(kind)
        if subscription is None:
            return False
        now = self.world.now()
        metadata = {
            "ApplicationId": self.credentials["client_id"],
            "SubscriptionId": subscription.id,
            "PublishTime": stamp(now),
            "NotificationId": str(uuid.UUID(int=self.dice.getrandbits(128), version=4)),
        }
        if kind == "FEED_PROCESSING_FINISHED":  # the one family that writes its names in camel case
            body: dict[str, Any] = {
                "notificationVersion": "2020-09-04",
                "notificationType": kind,
                "payloadVersion": "2020-09-04",
                "eventTime": stamp(now),
                "payload": payload,
                "notificationMetadata": {
                    name[0].lower() + name[1:]: value for name, value in metadata.items()
                },
            }
        else:
            body = {
                "NotificationVersion": "1.0",
                "NotificationType": kind,
                "PayloadVersion": "1.0",
                "EventTime": stamp(now),
                "Payload": payload,
                "NotificationMetadata": metadata,
            }
        faults = self.faults
        if faults.webhook_loss_rate and self.dice.random() < faults.webhook_loss_rate:
            self.count("messages_lost")
            return False
        times = (
            2 if faults.webhook_duplicate_rate and self.dice.random() < faults.webhook_duplicate_rate else 1
        )
        text = json.dumps(body)
        for _ in range(times):
            wait = faults.webhook_delay_ms + (
                self.dice.randrange(faults.webhook_shuffle_ms) if faults.webhook_shuffle_ms else 0
            )
            self.enqueue(text, wait / 1000)
        return True

    def enqueue(self, text: str, wait: float = 0.0) -> Message:
        now = self.world.now()
        message = Message(str(uuid.UUID(int=self.dice.getrandbits(128), version=4)), text, now, now + wait)
        self.messages[message.id] = message
        self.count("messages_sent")
        return message


def errors(status: int, code: str, message: str, details: str = "") -> Answer:
    """The Selling Partner API's error list."""
    return Answer.json({"errors": [{"code": code, "message": message, "details": details}]}, status)
