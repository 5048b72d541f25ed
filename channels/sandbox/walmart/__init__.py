"""Walmart Marketplace (US) seller accounts, API v3."""

from channels.sandbox.walmart.platform import Walmart
from channels.sandbox.walmart.seller import WalmartSeller

__all__ = ["Walmart", "WalmartSeller"]
