"""What a benchmark hands back: figures, the targets they are held against, and what must be exact at any speed."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from django.db import connection

from oms.core import invariants
from oms.core.clock import now
from oms.core.db import on_postgres


@dataclass(frozen=True, slots=True)
class Target:
    """One figure against its target. `nr` is the target's number in docs/benchmarks/README.md."""

    nr: int
    what: str
    value: float
    unit: str
    must: str
    aim: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Exact:
    """Something that must be true whatever the speed; `detail` says what was found."""

    what: str
    ok: bool
    detail: str


@dataclass(slots=True)
class Report:
    """The outcome of one benchmark run."""

    bench: str
    command: str
    size: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, float | int | str | None] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)
    exact: list[Exact] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)
    _load: float = field(default_factory=lambda: os.getloadavg()[0])

    def at_least(self, nr: int, what: str, value: float, must: float, aim: float, unit: str = "") -> None:
        verdict = "aim met" if value >= aim else "met" if value >= must else "missed"
        self.targets.append(Target(nr, what, round(value, 3), unit, f"≥ {must:g}", f"≥ {aim:g}", verdict))

    def at_most(self, nr: int, what: str, value: float, must: float, aim: float, unit: str = "") -> None:
        verdict = "aim met" if value <= aim else "met" if value <= must else "missed"
        self.targets.append(Target(nr, what, round(value, 3), unit, f"≤ {must:g}", f"≤ {aim:g}", verdict))

    def equal(self, what: str, found: object, wanted: object) -> None:
        ok = found == wanted
        self.exact.append(Exact(what, ok, f"{found}" if ok else f"{found} instead of {wanted}"))

    def check_invariants(self) -> None:
        """Every invariant of every app over the data that the run has left."""
        results = invariants.run()
        broken = [f"{one.invariant.id}: {one.failures[0]}" for one in results if one.failures]
        detail = "; ".join(broken)[:500] or f"{len(results)} hold"
        self.exact.append(Exact("invariants", not broken, detail))

    @property
    def ok(self) -> bool:
        """True when everything is exact; a missed speed target is a finding, not a failure."""
        return all(one.ok for one in self.exact)

    def as_dict(self) -> dict[str, Any]:
        return {
            "bench": self.bench,
            "command": self.command,
            "at": now().isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self._started, 1),
            "database": database(),
            "machine": {
                "cores": os.cpu_count(),
                "processor": platform.machine(),
                "python": platform.python_version(),
                "load_before": round(self._load, 2),
                "load_after": round(os.getloadavg()[0], 2),
            },
            "size": self.size,
            "figures": {
                name: round(value, 3) if isinstance(value, float) else value
                for name, value in self.figures.items()
            },
            "targets": [asdict(one) for one in self.targets],
            "exact": [asdict(one) for one in self.exact],
            "notes": self.notes,
            "ok": self.ok,
        }


def database() -> dict[str, str]:
    """Engine, version and how durable a commit is."""
    with connection.cursor() as cursor:
        if on_postgres():
            found = {"engine": "postgresql"}
            for name in ("server_version", "fsync", "synchronous_commit"):
                cursor.execute(f"SHOW {name}")
                found[name] = str(cursor.fetchone()[0])
            return found
        cursor.execute("SELECT sqlite_version()")
        version = str(cursor.fetchone()[0])
        cursor.execute("PRAGMA journal_mode")
        journal = str(cursor.fetchone()[0])
        cursor.execute("PRAGMA synchronous")
        return {
            "engine": "sqlite",
            "server_version": version,
            "journal_mode": journal,
            "synchronous": str(cursor.fetchone()[0]),
        }


def table(data: dict[str, Any]) -> str:
    """A report as Markdown, for people."""
    engine = data["database"]
    machine = data["machine"]
    durable = ", ".join(
        f"{name} {value}" for name, value in engine.items() if name not in ("engine", "server_version")
    )
    lines = [
        f"`{data['command']}`",
        "",
        f"{data['at']}, {data['seconds']} s. {engine['engine']} {engine['server_version']} ({durable}). "
        f"{machine['cores']} cores, Python {machine['python']}, load {machine['load_before']} before and "
        f"{machine['load_after']} after.",
        "",
        "Data: "
        + ", ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in data["size"].items())
        + ".",
        "",
        *_rows(
            ("figure", "value"),
            [(name.replace("_", " "), _plain(value)) for name, value in data["figures"].items()],
        ),
        "",
    ]
    if data["targets"]:
        wanted = [
            (
                one["nr"],
                one["what"],
                f"{_plain(one['value'])} {one['unit']}".strip(),
                one["must"],
                one["aim"],
                one["verdict"],
            )
            for one in data["targets"]
        ]
        lines += [*_rows(("nr", "target", "value", "must", "aim", "verdict"), wanted), ""]
    lines += [
        *_rows(
            ("must be exact", "", "found"),
            [(one["what"], "yes" if one["ok"] else "NO", one["detail"]) for one in data["exact"]],
        )
    ]
    lines += ["", *data["notes"]] if data["notes"] else []
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".") if abs(value) < 100 else f"{value:,.0f}"
    return (
        f"{value:,}"
        if isinstance(value, int) and not isinstance(value, bool)
        else "–"
        if value is None
        else str(value)
    )


def _rows(head: Sequence[object], rows: Sequence[Sequence[object]]) -> list[str]:
    return [
        "| " + " | ".join(str(cell) for cell in head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows),
    ]
