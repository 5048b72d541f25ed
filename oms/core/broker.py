"""The task queue's table, asked with few statements: django-q2's ORM broker takes a task with two and makes a model
of it each time. On PostgreSQL a task is taken, oldest first, with one; on SQLite the original does.
"""

from __future__ import annotations

from time import sleep

from django.db import connection
from django.utils import timezone
from django_q.brokers.orm import ORM
from django_q.conf import Conf

from oms.core.db import on_postgres

_TAKE = """
    UPDATE django_q_ormq SET lock = %s
    FROM (
        SELECT id AS taken FROM django_q_ormq WHERE key = %s AND lock < %s
        ORDER BY lock LIMIT %s FOR UPDATE SKIP LOCKED
    ) AS due
    WHERE id = taken
    RETURNING id, payload
"""


class Broker(ORM):
    """Same table, same promises: who takes a task owns it until `retry` is over, then it is given out again."""

    def dequeue(self) -> list[tuple[int, str]] | None:
        """Tasks that are due, at most `bulk`; sleeps `poll` seconds when there are none."""
        if not on_postgres():
            taken: list[tuple[int, str]] | None = super().dequeue()
            return taken
        self.get_connection()  # drops a broken one
        with connection.cursor() as cursor:
            cursor.execute(_TAKE, [self.timeout(None), self.list_key, timezone.now(), Conf.BULK])
            rows = cursor.fetchall()
        if not rows:
            sleep(float(Conf.POLL))
        return rows

    def delete(self, task_id: int) -> None:
        """Done, or given up."""
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM django_q_ormq WHERE id = %s", [task_id])
