import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from oms.core import worker


class Command(BaseCommand):
    help = "Run tasks: a supervised django-q2 cluster. SIGTERM lets running tasks finish within 70 seconds."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--cluster", action="store_true", help="the supervised child (internal)")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["cluster"]:
            sys.exit(worker.run_cluster())
        worker.Supervisor().run()
