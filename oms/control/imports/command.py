"""What the three import commands share."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from oms.control.imports import reader, service
from oms.control.models import ImportFile
from oms.core.actor import Actor
from oms.core.errors import UserError
from oms.core.words import some


class ImportCommand(BaseCommand):
    """`manage.py import_… FILE [--profile P] [--channel C] [--dry-run]`."""

    kind = ""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument(
            "--profile", default="", help="shape of the file; found by its headers when left out"
        )
        parser.add_argument("--channel", default="", help="code of the sales channel (orders)")
        parser.add_argument("--warehouse", default="", help="code of the warehouse for rows that name none")
        parser.add_argument(
            "--mode", choices=["set", "add"], default="", help="stock: count (set) or change (add)"
        )
        parser.add_argument("--dry-run", action="store_true", help="show what would happen, write nothing")
        parser.add_argument(
            "--no-create-skus", action="store_true", help="online_retail: leave unknown codes unmapped"
        )
        parser.add_argument("--errors", type=Path, help="write the rows that need eyes to this CSV file")

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"]
        if not path.is_file():
            raise CommandError(f"file: {path} does not exist.")
        try:
            user = getpass.getuser()
        except OSError:
            user = "shell"
        actor = Actor("user", f"{user} (command line)")
        try:
            profile = service.choose_profile(path, self.kind, options["profile"])
            chosen = service.options_for(
                self.kind,
                channel_code=options["channel"],
                warehouse_code=options["warehouse"],
                mode=options["mode"],
            )
            if options["dry_run"]:
                report = service.check(path, profile, chosen)
                self.stdout.write(f"{profile.title}: {some(report.rows, 'row')} read, nothing written.")
            else:
                sha = reader.digest(path)
                if ImportFile.objects.filter(sha256=sha, state=ImportFile.State.APPLIED).exists():
                    self.stdout.write("This very file was applied before; rows already taken are skipped.")
                report = service.apply(
                    path,
                    profile,
                    chosen,
                    actor=actor,
                    progress=self._progress,
                    create_skus=profile.name == "online_retail" and not options["no_create_skus"],
                )
                service.keep(
                    path,
                    profile,
                    report,
                    kind=self.kind,
                    name=path.name,
                    digest=sha,
                    actor=actor,
                    applied=True,
                )
                self.stdout.write(f"{profile.title}: {some(report.rows, 'row')} applied.")
        except UserError as error:
            raise CommandError(error.message) from error
        for name, count in sorted(report.counts.items()):
            self.stdout.write(f"  {name.replace('_', ' '):24} {count:>12,}")
        for problem in [p for p in report.problems if p.level == "error"][:20]:
            self.stdout.write(f"  row {problem.row} {problem.column}: {problem.message}")
        if options["errors"]:
            service.write_problems(report, options["errors"])
            self.stdout.write(f"Rows that need eyes: {options['errors']}")

    def _progress(self, report: service.Report) -> bool:
        if sys.stderr.isatty():
            self.stderr.write(f"\r{report.rows:,} rows", ending="")
        return True
