"""Migrations say what the models say, and each one can be taken back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from cryptography.fernet import Fernet
from psycopg import sql

ROOT = Path(__file__).resolve().parent.parent
OURS = ("control", "channels", "returns", "fulfillment", "orders", "procurement", "inventory")
SERVER = os.environ.get("DATABASE_URL", "")


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of an empty installation on the engine under test."""
    environment = {"PATH": os.environ["PATH"], "OMS_HOME": str(tmp_path)}
    if not SERVER.startswith("postgres"):
        yield environment
        return
    name = f"lading_migrations_{os.getpid()}"
    base = SERVER.rsplit("/", 1)[0]
    with psycopg.connect(f"{base}/postgres", autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield environment | {
                "DATABASE_URL": f"{base}/{name}",
                "OMS_SECRET_KEY": "x" * 50,
                "OMS_FIELD_KEYS": f"k1:{Fernet.generate_key().decode()}",
                "OMS_ALLOWED_HOSTS": "oms.example.com",
            }
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def manage(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"manage.py {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_models_have_no_change_without_a_migration(fresh):
    assert "No changes detected" in manage(fresh, "makemigrations", "--check", "--dry-run")


@pytest.mark.timeout(900)  # every migration, down and up, in processes of their own
def test_every_floor_can_be_taken_down_and_put_up_again(fresh):
    manage(fresh, "migrate", "--noinput", "--verbosity", "0")
    for app in OURS:
        manage(fresh, "migrate", app, "zero", "--noinput", "--verbosity", "0")
    manage(fresh, "migrate", "--noinput", "--verbosity", "0")
    assert "[ ]" not in manage(fresh, "showmigrations", "--list")
