import asyncio
from typing import Any

from django.core.management.base import BaseCommand

from oms.core import dispatcher


class Command(BaseCommand):
    help = "Drain the outbox, push stock, ring periodic tasks. One is active, more stand by. SIGTERM stops it cleanly."

    def handle(self, *args: Any, **options: Any) -> None:
        asyncio.run(dispatcher.serve())
