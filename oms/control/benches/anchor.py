"""The anchor: how fast this machine commits the smallest possible order at this moment, without any product code.

A1 is one process that writes the minimal transaction with the plain driver: insert an order, two lines, two ledger
rows and one outbox row, change two stock rows by a conditional UPDATE in order of SKU, commit. Machines and disks
differ by an order of magnitude, so the product's speed is told as a ratio to A1 of the same run.
"""

from __future__ import annotations

import random
import sqlite3
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection

from oms.core.db import on_postgres

_TABLES = """
CREATE TABLE anchor_order (id {serial}, external_id text NOT NULL UNIQUE, placed_at text NOT NULL, 
  total numeric NOT NULL);
CREATE TABLE anchor_line (id {serial}, order_id bigint NOT NULL, sku_id bigint NOT NULL, quantity int NOT NULL);
CREATE TABLE anchor_ledger (id {serial}, sku_id bigint NOT NULL, quantity int NOT NULL, reference text NOT NULL);
CREATE TABLE anchor_outbox (id {serial}, topic text NOT NULL, key text NOT NULL);
CREATE TABLE anchor_stock (sku_id bigint PRIMARY KEY, on_hand int NOT NULL, reserved int NOT NULL);
"""
SKUS = 500


class Anchor:
    """Keeps its tables beside the product's, in the same database."""

    def __init__(self) -> None:
        self._orders = 0
        postgres = on_postgres()
        self._mark = "%s" if postgres else "?"
        self._connection: Any
        if postgres:
            taken = connection.get_connection_params()
            names = ("dbname", "user", "password", "host", "port")
            self._connection = psycopg.connect(**{name: taken[name] for name in names if taken.get(name)})
        else:
            self._connection = sqlite3.connect(
                settings.DATABASES["default"]["NAME"], timeout=20, isolation_level=None
            )
            self._connection.execute("PRAGMA synchronous=NORMAL")
        serial = "bigserial PRIMARY KEY" if postgres else "integer PRIMARY KEY"
        for statement in _TABLES.format(serial=serial).strip().removesuffix(";").split(";\n"):
            self._connection.execute(statement)
        for sku in range(SKUS):
            self._run("INSERT INTO anchor_stock VALUES (?, 1000000000, 0)", sku)
        if postgres:
            self._connection.commit()

    def run(self, orders: int) -> None:
        """Commit so many orders, one after the other."""
        for _ in range(orders):
            self._one(sorted(random.sample(range(SKUS), 2)))

    def close(self) -> None:
        self._connection.close()

    def _run(self, sql: str, *parameters: Any) -> Any:
        return self._connection.execute(sql.replace("?", self._mark), parameters)

    def _one(self, pair: list[int]) -> None:
        self._orders += 1
        name = f"A-{self._orders}"
        if not on_postgres():
            self._connection.execute("BEGIN IMMEDIATE")
        order = self._run(
            "INSERT INTO anchor_order (external_id, placed_at, total) VALUES (?, ?, ?) RETURNING id",
            name, "2026-01-01T00:00:00Z", 40,
        ).fetchone()[0]  # fmt: skip
        for sku in pair:
            self._run("INSERT INTO anchor_line (order_id, sku_id, quantity) VALUES (?, ?, 1)", order, sku)
        for sku in pair:
            self._run("INSERT INTO anchor_ledger (sku_id, quantity, reference) VALUES (?, 1, ?)", sku, name)
        self._run("INSERT INTO anchor_outbox (topic, key) VALUES (?, ?)", "stock.changed", name)
        for sku in pair:
            changed = self._run(
                "UPDATE anchor_stock SET reserved = reserved + 1 WHERE sku_id = ? AND on_hand - reserved >= 1",
                sku,
            )
            if changed.rowcount != 1:
                raise RuntimeError("the anchor ran out of stock")
        if on_postgres():
            self._connection.commit()
        else:
            self._connection.execute("COMMIT")
