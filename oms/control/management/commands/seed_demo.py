"""`manage.py seed_demo`: the demo brand, once; with --live also its channels in a sandbox."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from oms.control.demo import live, troubles
from oms.control.demo.seed import HISTORY_ORDERS, seed


class Command(BaseCommand):
    help = "Fill an empty installation with the demo brand: users, goods, suppliers and a year of orders."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--orders", type=int, default=HISTORY_ORDERS, help="orders of the last year")
        parser.add_argument(
            "--live", default="", help="address of a running sandbox: open the shops there and connect them"
        )
        parser.add_argument(
            "--shoppers", type=float, default=0.0, help="with --live: orders per second that shoppers place"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        fresh = seed(self.stdout.write, history=options["orders"])
        if not fresh:
            self.stdout.write("The demo brand is there already; nothing was changed.")
        if options["live"]:
            live.connect(options["live"], say=self.stdout.write)
            if fresh:
                troubles.make(self.stdout.write)
            if options["shoppers"]:
                live.shop(options["live"], options["shoppers"])
