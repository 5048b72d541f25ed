"""`manage.py demo`: everything at once on an embedded database, under one supervisor."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from oms.control.demo.history import ZONE
from oms.control.demo.live import host_map, shop
from oms.control.demo.seed import LOGINS, PASSWORD
from oms.core.roles import ROLES

#: a process that ends is started again after so many seconds
RESTART_AFTER = 1.0


def business_days() -> str:
    """The zone whose midnights part the demo's days: the brand's own, unless OMS_TIME_ZONE names another.

    It is kept beside a new embedded database, for whatever else runs on it; an older one keeps the days that it was
    counted by.
    """
    new = settings.EMBEDDED and not Path(settings.DATABASES["default"]["NAME"]).exists()
    if not new:
        return str(settings.BUSINESS_TIME_ZONE)
    zone = os.environ.get("OMS_TIME_ZONE") or ZONE.key
    (settings.HOME / "time_zone").write_text(f"{zone}\n")
    return zone


class Command(BaseCommand):
    help = "Start the demo brand: web, worker, dispatcher and a sandbox that plays its channels."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="of the web pages")
        parser.add_argument("--sandbox-port", type=int, default=8790)
        parser.add_argument(
            "--shoppers", type=float, default=0.05, help="orders per second that shoppers place; 0 = none"
        )
        parser.add_argument("--orders", type=int, default=5000, help="orders of the last year")

    def handle(self, *args: Any, **options: Any) -> None:
        started = time.monotonic()
        for name in ("port", "sandbox_port"):
            self._free(options[name])
        web = f"http://127.0.0.1:{options['port']}"
        sandbox = f"http://127.0.0.1:{options['sandbox_port']}"
        env = {
            **os.environ,
            "OMS_BASE_URL": web,
            "OMS_TIME_ZONE": business_days(),
            # what the person at the keyboard points at a server of their own counts before ours
            "OMS_HOST_MAP": json.dumps({**host_map(sandbox), **settings.HOST_MAP}),
            "PYTHONUNBUFFERED": "1",
        }
        self.stopping = False
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        manage = [sys.executable, str(Path(settings.BASE_DIR) / "manage.py")]
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._run([*manage, "migrate", "--noinput", "--verbosity", "0"], env)
        commands = {
            "sandbox": [
                *manage,
                "sandbox",
                "--port",
                str(options["sandbox_port"]),
                "--scenario",
                "empty",
                "--state",
                str(settings.HOME / "sandbox.json"),
            ],
            "web": [*manage, "serve", "--port", str(options["port"])],
            "worker": [*manage, "worker"],
            "dispatcher": [*manage, "dispatch"],
        }
        try:
            self._start("sandbox", commands["sandbox"], env)
            self._run(
                [
                    *manage,
                    "seed_demo",
                    "--live",
                    sandbox,
                    "--orders",
                    str(options["orders"]),
                ],
                env,
            )
            for name in ("web", "worker", "dispatcher"):
                self._start(name, commands[name], env)
            self._wait_for(f"{web}/healthz")
            if options["shoppers"]:
                shop(sandbox, options["shoppers"])
            self._tell(web, sandbox, time.monotonic() - started)
            self._watch(commands, env)
        finally:
            self._stop_all()

    def _free(self, port: int) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise CommandError(
                    f"Port {port} is taken: stop what uses it or choose another with --port or --sandbox-port."
                ) from error

    def _run(self, command: list[str], env: dict[str, str]) -> None:
        done = subprocess.run(command, env=env, check=False)  # noqa: S603 our own manage.py
        if done.returncode:
            raise CommandError(f"{command[2]} failed; see the lines above.")

    def _start(self, name: str, command: list[str], env: dict[str, str]) -> None:
        self.running[name] = subprocess.Popen(command, env=env, start_new_session=True)  # noqa: S603 our own manage.py

    def _wait_for(self, url: str) -> None:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                if httpx.get(url, timeout=2, trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise CommandError(f"{url} does not answer; see the lines above.")

    def _tell(self, web: str, sandbox: str, seconds: float) -> None:
        rows = "\n".join(
            f"  {username:6} {ROLES[role][0]:20}{' only ' + ', '.join(scopes) if scopes else ''}"
            for username, role, _, scopes in LOGINS
        )
        self.stdout.write(
            f"""
Harbour & Pine is open after {seconds:.0f} s

  {web}/            the back office
  {web}/api/docs/   the API
  {web}/admin/      data repair (ana, dana)
  {sandbox}/_sandbox/    the channels' own side

Password of everybody: {PASSWORD}
{rows}

Try this
  1. Log in as omar. Today shows what needs a person; every row leads to the screen that solves it.
  2. Open an order: why this warehouse, who said so, what was cheaper.
  3. Pick & pack: type a SKU as a scanner would, close the box, compare rates, buy the label, mark it as gone.
  4. Channels: how long a sale took to reach every other listing.
  5. Returns: open one on a shipped order, receive, inspect; watch stock change only after "Restock as new".
  6. Reorder: tick a row, make the draft, send and receive it; the stock is on sale again.

Ctrl+C stops everything. Data stays in {settings.HOME}; `make clean` removes it.
"""
        )
        self.stdout.flush()

    def _watch(self, commands: dict[str, list[str]], env: dict[str, str]) -> None:
        while not self.stopping:
            time.sleep(0.5)
            for name, process in list(self.running.items()):
                if process.poll() is not None and not self.stopping:
                    self.stderr.write(f"{name} ended ({process.returncode}); starting it again")
                    time.sleep(RESTART_AFTER)
                    self._start(name, commands[name], env)

    def _stop(self, *args: Any) -> None:
        self.stopping = True
        if not self.running:
            raise SystemExit(0)

    def _stop_all(self) -> None:
        self.stopping = True
        for process in self.running.values():
            if process.poll() is None:
                process.terminate()
        until = time.monotonic() + 20
        for process in self.running.values():
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
