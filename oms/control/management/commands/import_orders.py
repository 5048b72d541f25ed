from oms.control.imports.command import ImportCommand


class Command(ImportCommand):
    help = "Bring in a file of orders: check every row, then apply it; see docs/files.md."
    kind = "orders"
