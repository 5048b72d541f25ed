"""A made-up shop with a REST interface of its own, for channels that are mapped without code."""

from channels.sandbox.custom.store import Bazaar, BazaarStore

__all__ = ["Bazaar", "BazaarStore"]
