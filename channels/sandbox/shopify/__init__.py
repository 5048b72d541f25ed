"""Shopify stores, Admin GraphQL API 2026-10."""

from channels.sandbox.shopify.execution import RESOLVERS, SCHEMA
from channels.sandbox.shopify.mutations import MUTATIONS  # importing it completes RESOLVERS
from channels.sandbox.shopify.store import Shopify, ShopifyStore

__all__ = ["MUTATIONS", "RESOLVERS", "SCHEMA", "Shopify", "ShopifyStore"]
