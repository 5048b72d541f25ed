"""Who may do what. A permission is `<area>.<verb>`; a role is a set of them."""

from __future__ import annotations

PERMISSIONS: dict[str, str] = {
    "stock.view": "See stock",
    "stock.adjust": "Adjust stock",
    "stock.transfer": "Move stock between warehouses",
    "stock.work": "Count stock and put it away",
    "orders.view": "See orders",
    "orders.edit": "Change orders",
    "orders.hold": "Put orders on hold",
    "orders.release": "Release holds",
    "orders.route": "Route orders",
    "shipping.view": "See shipments",
    "shipping.work": "Pick and pack",
    "shipping.label": "Buy and void labels",
    "products.customs": "Enter customs data of products",
    "returns.view": "See returns",
    "returns.work": "Receive and inspect returns",
    "returns.refund": "Refund buyers",
    "purchasing.view": "See purchasing",
    "purchasing.edit": "Make purchase orders",
    "purchasing.receive": "Receive goods",
    "channels.view": "See channels",
    "channels.manage": "Connect and pause channels",
    "reports.view": "See reports",
    "costs.view": "See costs and margins",
    "pii.view": "See buyers' personal data",
    "imports.run": "Import and export files",
    "exceptions.work": "Work on exceptions",
    "settings.manage": "Change settings",
    "users.manage": "Manage users and tokens",
    "audit.view": "Read the audit trail",
}

_VIEW = {
    "stock.view",
    "orders.view",
    "shipping.view",
    "returns.view",
    "purchasing.view",
    "channels.view",
    "reports.view",
}

ROLES: dict[str, tuple[str, frozenset[str]]] = {
    "owner": ("Owner", frozenset(PERMISSIONS)),
    "ops": (
        "Operations lead",
        frozenset(PERMISSIONS) - {"users.manage", "settings.manage"},
    ),
    "floor": (
        "Warehouse floor",
        frozenset({"stock.view", "orders.view", "shipping.view", "shipping.work", "shipping.label",
                   "products.customs", "returns.view", "returns.work", "purchasing.view", "purchasing.receive",
                   "exceptions.work", "pii.view", "stock.work"}),
    ),
    "buyer": (
        "Buyer",
        frozenset({"stock.view", "purchasing.view", "purchasing.edit", "purchasing.receive", "costs.view",
                   "reports.view", "imports.run", "exceptions.work"}),
    ),
    "finance": ("Finance", frozenset(_VIEW | {"costs.view", "returns.refund", "audit.view", "imports.run"})),
    "support": (
        "Customer support",
        frozenset({"stock.view", "orders.view", "orders.edit", "orders.hold", "shipping.view", "returns.view",
                   "returns.work", "pii.view", "exceptions.work"}),
    ),
    "threepl": ("3PL staff", frozenset({"stock.view", "shipping.view", "shipping.work", "pii.view"})),
    "viewer": ("Viewer", frozenset(_VIEW)),
    "datafixer": (
        "Data fixer",
        frozenset(_VIEW | {"stock.adjust", "stock.work", "products.customs", "imports.run", "exceptions.work",
                           "audit.view", "channels.manage"}),
    ),
}  # fmt: skip


def permissions_of(role: str) -> frozenset[str]:
    return ROLES[role][1] if role in ROLES else frozenset()


#: what an API token's scope allows, in permissions
SCOPES: dict[str, frozenset[str]] = {
    "products:read": frozenset({"stock.view"}),
    "products:write": frozenset({"stock.view", "settings.manage", "products.customs"}),
    "stock:read": frozenset({"stock.view"}),
    "stock:write": frozenset({"stock.view", "stock.adjust", "stock.transfer", "stock.work"}),
    "orders:read": frozenset({"orders.view"}),
    "orders:write": frozenset(
        {"orders.view", "orders.edit", "orders.hold", "orders.release", "orders.route"}
    ),
    "shipments:read": frozenset({"shipping.view"}),
    "shipments:write": frozenset({"shipping.view", "shipping.work", "shipping.label"}),
    "returns:read": frozenset({"returns.view"}),
    "returns:write": frozenset({"returns.view", "returns.work", "returns.refund"}),
    "purchasing:read": frozenset({"purchasing.view", "costs.view"}),
    "purchasing:write": frozenset({"purchasing.view", "purchasing.edit", "purchasing.receive", "costs.view"}),
    "channels:read": frozenset({"channels.view"}),
    "channels:write": frozenset({"channels.view", "channels.manage"}),
    "exceptions:read": frozenset({"exceptions.work"}),
    "exceptions:write": frozenset({"exceptions.work"}),
    "webhooks:read": frozenset({"settings.manage"}),
    "webhooks:write": frozenset({"settings.manage"}),
    "users:read": frozenset({"users.manage"}),
    "users:write": frozenset({"users.manage"}),
    "kpis:read": frozenset({"reports.view"}),
    "imports:read": frozenset({"imports.run"}),
    "imports:write": frozenset({"imports.run"}),
    "pii:read": frozenset({"pii.view"}),
}
