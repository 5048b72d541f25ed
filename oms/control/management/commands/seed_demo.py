"""`manage.py seed_demo`: the demo brand, once."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from oms.control.demo.seed import HISTORY_ORDERS, seed


class Command(BaseCommand):
    help = "Fill an empty installation with the demo brand: users, goods, suppliers and a year of orders."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--orders", type=int, default=HISTORY_ORDERS, help="orders of the last year")

    def handle(self, *args: Any, **options: Any) -> None:
        if not seed(self.stdout.write, history=options["orders"]):
            self.stdout.write("The demo brand is there already; nothing was changed.")
