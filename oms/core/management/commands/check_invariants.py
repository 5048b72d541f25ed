import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from oms.core import invariants


class Command(BaseCommand):
    help = (
        "Check everything that must always be true. Exit code 1 with the failing rows when something is not."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("ids", nargs="*", help="only these, for example S1 S2")
        parser.add_argument("--json", action="store_true")
        parser.add_argument(
            "--limit", type=int, default=50, help="failing rows shown per invariant (default 50)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        known = {entry.id for entry in invariants.all_invariants()}
        unknown = [id for id in options["ids"] if id not in known]
        if unknown:
            raise CommandError(f"No invariant '{unknown[0]}'. Known are {', '.join(sorted(known))}.")
        results = invariants.run(options["ids"], options["limit"])
        if options["json"]:
            rows = [
                {"id": r.invariant.id, "sentence": r.invariant.sentence, "ok": r.ok, "failures": r.failures}
                for r in results
            ]
            self.stdout.write(json.dumps(rows, indent=1))
        else:
            for result in results:
                self.stdout.write(
                    f"{'ok  ' if result.ok else 'FAIL'} {result.invariant.id:4} {result.invariant.sentence}"
                )
                for row in result.failures:
                    self.stdout.write(f"          {row}")
        if not all(result.ok for result in results):
            sys.exit(1)
