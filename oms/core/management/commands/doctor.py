import secrets
import sys
from typing import Any

from cryptography.fernet import Fernet
from django.core.management.base import BaseCommand, CommandParser

from oms.core import doctor


class Command(BaseCommand):
    help = "Check this installation; each trouble names its fix. Exit code 1 when there is one."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--keys", action="store_true", help="print fresh values for the key variables and end"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["keys"]:
            self.stdout.write(f"OMS_SECRET_KEY={secrets.token_urlsafe(50)}")
            self.stdout.write(f"OMS_FIELD_KEYS=k1:{Fernet.generate_key().decode()}")
            return
        troubles = 0
        for finding in doctor.examine():
            troubles += not finding.ok
            self.stdout.write(f"{'ok     ' if finding.ok else 'TROUBLE'} {finding.sentence}")
        if troubles:
            sys.exit(1)
