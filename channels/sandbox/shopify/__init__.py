"""Shopify stores, Admin GraphQL API 2026-10."""

from channels.sandbox.shopify import mutations, resolvers
from channels.sandbox.shopify.execution import RESOLVERS, SCHEMA
from channels.sandbox.shopify.store import Shopify, ShopifyStore

__all__ = ["RESOLVERS", "SCHEMA", "Shopify", "ShopifyStore", "mutations", "resolvers"]
