"""Mappings that come with the product. Only what a mapping can really carry: docs/channels.md says what it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FILTER = "searchCriteria[filter_groups][0][filters][0]"
_SHIP_TO = "extension_attributes.shipping_assignments[0].shipping.address"

#: base address https://shop.example.com/rest/V1, an integration's access token as bearer token. Reads the shop's
#: times as UTC; configurable products come as parent and child, the child is passed over.
MAGENTO: Mapping[str, Any] = {
    "orders_path": f"/orders?{_FILTER}[field]=updated_at&{_FILTER}[condition_type]=gteq"
    "&searchCriteria[sortOrders][0][field]=updated_at&searchCriteria[sortOrders][0][direction]=ASC"
    "&searchCriteria[pageSize]=100",
    "orders_list": "items",
    "since_param": f"{_FILTER}[value]",
    "since_format": "space",
    "paging": "page",
    "page_param": "searchCriteria[currentPage]",
    "page_size": "100",
    "total_path": "total_count",
    "order_path": "/orders/{order_id}",
    "id": "entity_id",
    "number": "increment_id",
    "placed_at": "created_at",
    "updated_at": "updated_at",
    "status": "state",
    "statuses": {
        "new": "pending", "pending_payment": "pending", "payment_review": "pending", "holded": "pending",
        "processing": "open", "complete": "shipped", "closed": "cancelled", "canceled": "cancelled",
    },
    "currency": "order_currency_code",
    "total": "grand_total",
    "shipping": "shipping_amount",
    "tax": "tax_amount",
    "discount": "discount_amount",
    "service_level": "shipping_description",
    "lines": "items",
    "line_id": "item_id",
    "line_sku": "sku",
    "line_quantity": "qty_ordered",
    "line_price": "price",
    "line_title": "name",
    "line_tax": "tax_amount",
    "line_discount": "discount_amount",
    "line_skip": "parent_item_id",
    "first_name": f"{_SHIP_TO}.firstname",
    "last_name": f"{_SHIP_TO}.lastname",
    "company": f"{_SHIP_TO}.company",
    "email": "customer_email",
    "phone": f"{_SHIP_TO}.telephone",
    "address1": f"{_SHIP_TO}.street[0]",
    "address2": f"{_SHIP_TO}.street[1]",
    "city": f"{_SHIP_TO}.city",
    "region": f"{_SHIP_TO}.region_code",
    "postal_code": f"{_SHIP_TO}.postcode",
    "country": f"{_SHIP_TO}.country_id",
    "stock_method": "POST",
    "stock_path": "/inventory/source-items",
    "stock_body": '{"sourceItems": "{items}"}',
    "stock_item": '{"sku": "{sku}", "source_code": "default", "quantity": "{quantity}", "status": 1}',
    "stock_read_path": "/inventory/source-items?searchCriteria[filter_groups][0][filters][0][field]=source_code"
    "&searchCriteria[filter_groups][0][filters][0][value]=default",
    "stock_list": "items",
    "stock_key": "sku",
    "stock_quantity": "quantity",
    "ship_method": "POST",
    "ship_path": "/order/{order_id}/ship",
    "ship_body": '{"items": "{lines}", "notify": true, "tracks": [{"track_number": "{tracking_number}", '
    '"title": "{carrier_name}", "carrier_code": "custom"}]}',
    "ship_line": '{"order_item_id": "{line_id}", "qty": "{quantity}"}',
}  # fmt: skip

PRESETS: Mapping[str, tuple[str, Mapping[str, Any]]] = {"magento": ("Magento 2 (Open Source)", MAGENTO)}
