"""TikTok Shop as far as an app of a seller sees it."""

from channels.sandbox.tiktok.shop import TikTokShop

__all__ = ["TikTokShop"]
