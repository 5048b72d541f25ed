"""WooCommerce shops, REST API v3."""

from channels.sandbox.woocommerce.store import WooCommerce, WooStore

__all__ = ["WooCommerce", "WooStore"]
