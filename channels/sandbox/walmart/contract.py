"""What the Marketplace API takes: closed schemas of request bodies, after its published OpenAPI files."""

from __future__ import annotations

from typing import Any

CARRIERS = [
    "UPS", "USPS", "FedEx", "Airborne", "OnTrac", "DHL Ecommerce - US", "DHL", "LS", "UDS", "UPSMI", "FDX", "PILOT",
    "ESTES", "SAIA", "FDS Express", "Seko Worldwide", "HIT Delivery", "FEDEXSP", "RL Carriers",
    "Metropolitan Warehouse & Delivery", "China Post", "YunExpress", "Yellow Freight Sys", "AIT Worldwide Logistics",
    "Chukou1", "Sendle", "Landmark Global", "Sunyou", "Yanwen", "4PX", "GLS", "OSM Worldwide", "FIRST MILE",
    "AM Trucking", "CEVA", "India Post", "SF Express", "CNE", "TForce Freight", "AxleHire", "LSO", "Royal Mail",
    "ABF Freight System", "WanB", "Roadrunner Freight", "Meyer Distribution", "AAA Cooper", "Canada Post",
    "Southeastern Freight Lines", "Japan Post", "Correos de Mexico", "XPO Logistics", "JD Logistics", "YDH", "JCEX",
    "Flyt", "Deutsche Post", "Better Trucks", "Asendia", "SFC", "UBI", "ePost Global", "YF Logistics", "RXO",
    "Estes Express", "Shypmax", "WIN.IT America", "PITT OHIO", "PostNord Sweden", "Equick", "Whistl", "Tusou",
    "Shiprocket", "DTDC", "PTS",
]  # fmt: skip
METHODS = ["Standard", "Express", "OneDay", "Freight", "WhiteGlove", "Value"]
CANCEL_REASONS = [
    "CUSTOMER_REQUESTED_SELLER_TO_CANCEL", "SELLER_CANCEL_PRICING_ERROR", "SELLER_CANCEL_OUT_OF_STOCK",
    "SELLER_CANCEL_FRAUD_STOP_SHIPMENT", "SELLER_CANCEL_ADDRESS_NOT_SERVICEABLE",
]  # fmt: skip
REFUND_REASONS = [
    "BillingError", "TaxExemptCustomer", "ItemNotAsAdvertised", "IncorrectItemReceived", "CancelledYetShipped",
    "ItemNotReceivedByCustomer", "IncorrectShippingPrice", "DamagedItem", "DefectiveItem", "CustomerChangedMind",
    "CustomerReceivedItemLate", "Missing Parts / Instructions", "Finance -> Goodwill", "Finance -> Rollback",
    "Buyer canceled", "Customer returned item", "General adjustment", "Merchandise not received",
    "Quality -> Missing Parts / Instructions", "Shipping & Delivery -> Damaged",
    "Shipping & Delivery -> Shipping Price Discrepancy", "Others",
]  # fmt: skip
EVENTS = {
    "PO_CREATED": "ORDER", "PO_LINE_AUTOCANCELLED": "ORDER", "ORDER_INTENT_TO_CANCEL": "ORDER",
    "ORDER_MANAGEMENT_EVENT": "ORDER", "INVENTORY_OOS": "INVENTORY", "RETURN_NOTIFICATIONS": "RETURNS",
    "OFFER_PUBLISHED": "ITEM", "OFFER_UNPUBLISHED": "ITEM", "BUY_BOX_CHANGED": "PRICE", "REPORT_STATUS": "REPORTS",
}  # fmt: skip

Schema = dict[str, Any]
TEXT: Schema = {"type": "string", "minLength": 1}


def _object(required: str, **properties: Schema) -> Schema:
    """An object; the required fields' names in one text."""
    return {"type": "object", "required": required.split(), "properties": properties}


def _list(items: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "items": items}


def _lines(line: Schema) -> Schema:
    return _object("orderLine", orderLine=_list(line))


QUANTITY = _object(
    "unitOfMeasurement amount",
    unitOfMeasurement={"type": "string", "enum": ["EACH", "EA"]},
    amount={"type": "string", "pattern": r"^[1-9]\d*$"},
)
STOCK = _object(
    "unit amount", unit={"type": "string", "enum": ["EACH"]}, amount={"type": "integer", "minimum": 0}
)
INVENTORY = _object("sku quantity", sku=TEXT, quantity=STOCK)
PLAIN_FEED = _object(
    "InventoryHeader Inventory",
    InventoryHeader=_object("version", version={"type": "string", "enum": ["1.4"]}),
    Inventory=_list(INVENTORY),
)
NODE_FEED = _object(
    "inventoryHeader inventory",
    inventoryHeader=_object("version", version={"type": "string", "enum": ["1.5"]}),
    inventory=_list(
        _object(
            "sku shipNodes",
            sku=TEXT,
            shipNodes=_list(_object("shipNode quantity", shipNode=TEXT, quantity=STOCK)),
        )
    ),
)
SHIPPING = _object(
    "orderShipment",
    orderShipment=_object(
        "orderLines",
        processMode={"type": "string", "enum": ["PARTIAL_UPDATE"]},
        orderLines=_lines(
            _object(
                "lineNumber sellerOrderId orderLineStatuses",
                lineNumber=TEXT,
                intentToCancelOverride={"type": "boolean"},
                sellerOrderId={"type": "string", "minLength": 1, "maxLength": 30},
                orderLineStatuses=_object(
                    "orderLineStatus",
                    orderLineStatus=_list(
                        _object(
                            "status statusQuantity trackingInfo",
                            status={"type": "string", "enum": ["Shipped"]},
                            statusQuantity=QUANTITY,
                            trackingInfo=_object(
                                "shipDateTime carrierName methodCode trackingNumber",
                                shipDateTime={"type": "integer", "minimum": 1_000_000_000_000},
                                carrierName=_object(
                                    "", carrier={"type": "string", "enum": CARRIERS}, otherCarrier=TEXT
                                ),
                                methodCode={"type": "string", "enum": METHODS},
                                trackingNumber=TEXT,
                                trackingURL={"type": "string", "pattern": "^https?://"},
                            ),
                        )
                    ),
                ),
            )
        ),
    ),
)
CANCELLATION = _object(
    "orderCancellation",
    orderCancellation=_object(
        "orderLines",
        orderLines=_lines(
            _object(
                "lineNumber orderLineStatuses",
                lineNumber=TEXT,
                orderLineStatuses=_object(
                    "orderLineStatus",
                    orderLineStatus=_list(
                        _object(
                            "status cancellationReason statusQuantity",
                            status={"type": "string", "enum": ["Cancelled"]},
                            cancellationReason={"type": "string", "enum": CANCEL_REASONS},
                            statusQuantity=QUANTITY,
                        )
                    ),
                ),
            )
        ),
    ),
)
_CHARGE_MONEY = _object(
    "currency amount",
    currency={"type": "string", "enum": ["USD"]},
    amount={"type": "number", "maximum": 0},
)
REFUND = _object(
    "orderRefund",
    orderRefund=_object(
        "purchaseOrderId orderLines",
        purchaseOrderId=TEXT,
        orderLines=_lines(
            _object(
                "lineNumber refunds",
                lineNumber=TEXT,
                isFullRefund={"type": "boolean"},
                refunds=_object(
                    "refund",
                    refund=_list(
                        _object(
                            "refundCharges",
                            refundId=TEXT,
                            refundComments={"type": "string"},
                            refundCharges=_object(
                                "",
                                refundCharge=_list(
                                    _object(
                                        "refundReason charge",
                                        refundReason={"type": "string", "enum": REFUND_REASONS},
                                        charge=_object(
                                            "chargeType chargeName chargeAmount",
                                            chargeType={"type": "string", "enum": ["PRODUCT", "SHIPPING"]},
                                            chargeName=TEXT,
                                            chargeAmount=_CHARGE_MONEY,
                                            tax=_object(
                                                "taxName taxAmount", taxName=TEXT, taxAmount=_CHARGE_MONEY
                                            ),
                                        ),
                                    )
                                ),
                            ),
                        )
                    ),
                ),
            )
        ),
    ),
)
SUBSCRIPTIONS = _object(
    "events",
    events=_list(
        _object(
            "eventType eventVersion resourceName eventUrl status",
            eventType={"type": "string", "enum": list(EVENTS)},
            eventVersion={"type": "string", "enum": ["V1"]},
            resourceName=TEXT,
            eventUrl={"type": "string", "pattern": "^https?://"},
            authDetails=_object(
                "authMethod",
                authMethod={"type": "string", "enum": ["BASIC_AUTH", "OAUTH", "HMAC"]},
                userName=TEXT, password=TEXT, authHeaderName=TEXT, authUrl=TEXT, clientId=TEXT, clientSecret=TEXT,
            ),
            headers={"type": "object", "properties": {"content-type": TEXT}},
            status={"type": "string", "enum": ["ACTIVE", "INACTIVE"]},
        )
    ),
)  # fmt: skip
