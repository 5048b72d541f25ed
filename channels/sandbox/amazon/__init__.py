"""Amazon seller accounts: Login with Amazon, the Selling Partner API, and the SQS queue its notifications go to."""

from channels.sandbox.amazon.platform import Amazon
from channels.sandbox.amazon.seller import AmazonSeller

__all__ = ["Amazon", "AmazonSeller"]
