"""`manage.py sandbox`: one local server that plays every sales channel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    help = "Play the sales channels (Shopify stores, Amazon sellers) on one local HTTP server, with state."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
        parser.add_argument("--port", type=int, default=8790, help="port to listen on (default 8790)")
        parser.add_argument("--scenario", default="default", help="shops to start with: default, empty")
        parser.add_argument("--latency-ms", type=int, default=0, help="answer time added to every API call")
        parser.add_argument("--state", help="file that keeps the state across restarts (JSON)")

    def handle(self, *args: Any, **options: Any) -> None:
        from channels.sandbox.scenarios import SCENARIOS
        from channels.sandbox.server import run

        if options["scenario"] not in SCENARIOS:
            raise CommandError(f"--scenario must be one of {', '.join(SCENARIOS)}.")

        def ready(url: str) -> None:
            self.stdout.write(f"sandbox on {url}; state and controls under {url}/_sandbox/")
            self.stdout.flush()

        try:
            run(
                host=options["host"],
                port=options["port"],
                scenario=options["scenario"],
                latency_ms=options["latency_ms"],
                state_file=Path(options["state"]) if options["state"] else None,
                say=ready,
            )
        except OSError as error:
            raise CommandError(
                f"Cannot listen on {options['host']}:{options['port']}: {error.strerror}."
            ) from error
