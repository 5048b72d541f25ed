"""eBay seller accounts: Sell Fulfillment, Inventory and Notification APIs, and the Post-Order API."""

from channels.sandbox.ebay.store import Ebay, EbayStore

__all__ = ["Ebay", "EbayStore"]
