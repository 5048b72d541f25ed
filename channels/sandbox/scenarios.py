"""Shops a sandbox starts with. `default`: two Shopify stores and one Amazon seller that sell the same goods."""

from __future__ import annotations

from typing import Any

# sku, title, price in USD, real units in the merchant's warehouses
GOODS = [
    ("MUG-BLU-350", "Stoneware mug, blue, 350 ml", "14.00", 120),
    ("MUG-SND-350", "Stoneware mug, sand, 350 ml", "14.00", 80),
    ("BOWL-OAT-18", "Breakfast bowl, oat, 18 cm", "22.00", 60),
    ("PLATE-OAT-27", "Dinner plate, oat, 27 cm", "26.00", 48),
    ("TRAY-OAK-40", "Serving tray, oak, 40 cm", "49.00", 25),
    ("APRON-LIN-M", "Linen apron, M", "39.00", 40),
    ("TOWEL-WAF-2", "Waffle kitchen towels, set of 2", "19.00", 90),
    ("KNIFE-CHEF-20", "Chef's knife, 20 cm", "89.00", 15),
    ("BOARD-MAPLE-L", "Cutting board, maple, L", "59.00", 30),
    ("CARAFE-GLS-1L", "Glass carafe, 1 l", "34.00", 35),
]
FBA_GOODS = [
    ("MUG-BLU-350-FBA", "Stoneware mug, blue, 350 ml", "15.50", 60),
    ("TOWEL-WAF-2-FBA", "Waffle towels", "21.00", 40),
]


def _store(identity: str, name: str, location: str) -> dict[str, Any]:
    return {
        "kind": "shopify",
        "id": identity,
        "name": name,
        "currency": "USD",
        "locations": [{"name": location}],
        "catalogue": [
            {"sku": sku, "title": title, "price": price, "stock": units} for sku, title, price, units in GOODS
        ],
    }


SCENARIOS: dict[str, dict[str, Any]] = {
    "empty": {"shops": [], "physical": {}},
    "default": {
        "shops": [
            _store("acme", "Acme Home", "Reno"),
            _store("acme-outlet", "Acme Outlet", "Reno"),
            {
                "kind": "amazon",
                "id": "A1SANDBOX",
                "name": "Acme Home on Amazon",
                "currency": "USD",
                "catalogue": [
                    *(
                        {"sku": sku, "title": title, "price": price, "stock": units}
                        for sku, title, price, units in GOODS
                    ),
                    *(
                        {"sku": sku, "title": title, "price": price, "fba": units}
                        for sku, title, price, units in FBA_GOODS
                    ),
                ],
            },
        ],
        "physical": {sku: units for sku, _, _, units in GOODS},
    },
}
