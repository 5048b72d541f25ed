"""The house itself: what refuses to start, who may import whom, what the files of the project may not hold."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

ROOT = Path(__file__).resolve().parent.parent
LONG = "x" * 50
PRODUCTION = {
    "DATABASE_URL": "postgres://oms:secret@db.example:5432/oms",
    "OMS_SECRET_KEY": LONG,
    "OMS_FIELD_KEYS": f"k1:{Fernet.generate_key().decode()}",
    "OMS_ALLOWED_HOSTS": "oms.example.com",
    "OMS_BASE_URL": "https://oms.example.com",
}
SHOW = (
    "import json; from oms import settings as s; "
    "print(json.dumps({n: v for n, v in vars(s).items() if n.isupper() and isinstance(v, str | bool | int | dict)},"
    " default=str))"
)


def start(home: Path, code: str = SHOW, **environment: str) -> subprocess.CompletedProcess[str]:
    """Load the settings as a fresh process would, with nothing inherited but the search path."""
    clean = {"PATH": os.environ["PATH"], "OMS_HOME": str(home), **environment}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=clean, capture_output=True, text=True, check=False
    )


def loaded(home: Path, **environment: str) -> dict[str, object]:
    done = start(home, **environment)
    assert done.returncode == 0, done.stderr
    result: dict[str, object] = json.loads(done.stdout)
    return result


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in PRODUCTION.items() if key != name}


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        (without("OMS_SECRET_KEY"), "OMS_SECRET_KEY is not set"),
        (PRODUCTION | {"OMS_SECRET_KEY": "short"}, "OMS_SECRET_KEY is too short"),
        (without("OMS_FIELD_KEYS"), "OMS_FIELD_KEYS is not set"),
        (PRODUCTION | {"OMS_FIELD_KEYS": "k1:notakey"}, "OMS_FIELD_KEYS: entry 1 is not 'id:key'"),
        (
            PRODUCTION | {"OMS_FIELD_KEYS": PRODUCTION["OMS_FIELD_KEYS"] + ",k2"},
            "OMS_FIELD_KEYS: entry 2 is not 'id:key'",
        ),
        (without("OMS_ALLOWED_HOSTS"), "OMS_ALLOWED_HOSTS is not set"),
        (PRODUCTION | {"OMS_DEBUG": "1"}, "OMS_DEBUG=1 together with a PostgreSQL DATABASE_URL"),
        ({"OMS_DEBUG": "perhaps"}, "OMS_DEBUG is 'perhaps': use 1 or 0."),
        ({"OMS_BASE_URL": "oms.example.com"}, "OMS_BASE_URL must begin with http:// or https://."),
        ({"OMS_HOST_MAP": "api.ebay.com"}, "OMS_HOST_MAP must be JSON"),
        ({"OMS_HOST_MAP": '{"api.ebay.com": 1}'}, "OMS_HOST_MAP must be JSON"),
        ({"OMS_TIME_ZONE": "Mars/Olympus"}, "OMS_TIME_ZONE 'Mars/Olympus' is unknown"),
        ({"DATABASE_URL": "mysql://a:b@c/d"}, "DATABASE_URL must name a PostgreSQL or SQLite database."),
        ({"DATABASE_URL": "nonsense"}, "DATABASE_URL cannot be read"),
        (PRODUCTION | {"OMS_DB_POOL": "many"}, "OMS_DB_POOL is 'many': use a whole number from 0 to 500."),
        ({"OMS_WORKERS": "0"}, "OMS_WORKERS is '0': use a whole number from 1 to 64."),
        ({"OMS_HOME": "/dev/null/home"}, "OMS_HOME '/dev/null/home' cannot be made"),
    ],
)
def test_unsafe_or_unreadable_settings_refuse_with_one_sentence(tmp_path, environment, sentence):
    done = start(tmp_path, **({"OMS_HOME": str(tmp_path)} | environment))
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("django.core.exceptions.ImproperlyConfigured: ")
    assert sentence in last


def test_a_refusal_never_shows_a_key(tmp_path):
    key = Fernet.generate_key().decode()
    done = start(tmp_path, **(PRODUCTION | {"OMS_FIELD_KEYS": key}))
    assert done.returncode != 0
    assert key[:8] not in done.stderr.splitlines()[-1]


def test_embedded_keys_are_made_once_and_readable_by_their_owner_only(tmp_path):
    first, second = loaded(tmp_path), loaded(tmp_path)
    assert first["SECRET_KEY"] == second["SECRET_KEY"] and len(str(first["SECRET_KEY"])) >= 50
    assert first["FIELD_KEYS"] == second["FIELD_KEYS"]
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    assert loaded(tmp_path / "other")["SECRET_KEY"] != first["SECRET_KEY"]


def test_the_demo_parts_its_days_where_its_brand_is(tmp_path, monkeypatch, settings):
    """And whatever else runs on its database does so too, unless it is told otherwise."""
    from oms.control.management.commands.demo import business_days

    assert loaded(tmp_path)["BUSINESS_TIME_ZONE"] == "UTC"
    monkeypatch.delenv("OMS_TIME_ZONE", raising=False)
    settings.HOME, settings.EMBEDDED = tmp_path, True
    base = tmp_path / "lading.sqlite3"
    monkeypatch.setitem(settings.DATABASES["default"], "NAME", str(base))
    assert business_days() == "America/New_York"
    assert loaded(tmp_path)["BUSINESS_TIME_ZONE"] == "America/New_York"
    assert loaded(tmp_path, OMS_TIME_ZONE="Europe/Berlin")["BUSINESS_TIME_ZONE"] == "Europe/Berlin"
    (tmp_path / "time_zone").unlink()
    base.touch()
    assert business_days() == settings.BUSINESS_TIME_ZONE and not (tmp_path / "time_zone").exists()


def test_embedded_database_waits_instead_of_failing(tmp_path):
    database = loaded(tmp_path)["DATABASES"]["default"]  # type: ignore[index]
    assert database["NAME"] == str(tmp_path / "lading.sqlite3")
    assert database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert database["OPTIONS"]["timeout"] == 20
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        assert pragma in database["OPTIONS"]["init_command"]


def test_production_cookies_headers_and_static_files(tmp_path):
    found = loaded(tmp_path, **PRODUCTION)
    assert not (tmp_path / "secrets.json").exists()
    assert found["SESSION_COOKIE_NAME"] == "__Host-sessionid"
    assert found["CSRF_COOKIE_NAME"] == "__Host-csrftoken"
    assert found["SESSION_COOKIE_SECURE"] and found["CSRF_COOKIE_SECURE"] and found["SESSION_COOKIE_HTTPONLY"]
    assert found["SECURE_HSTS_SECONDS"] == 31_536_000
    assert "Manifest" in found["STORAGES"]["staticfiles"]["BACKEND"]  # type: ignore[index]
    database = found["DATABASES"]["default"]  # type: ignore[index]
    assert database["DISABLE_SERVER_SIDE_CURSORS"] is True


def test_a_pool_keeps_connections_itself(tmp_path):
    database = loaded(tmp_path, **PRODUCTION, OMS_DB_POOL="8")["DATABASES"]["default"]  # type: ignore[index]
    assert database["OPTIONS"]["pool"]["max_size"] == 8
    assert database["CONN_MAX_AGE"] == 0


def test_a_dead_worker_is_waited_for_longer_than_its_queue_can_take(tmp_path):
    """retry counts from the dequeue: timeout × (2 + (queue_limit + 1) / workers), or live tasks run twice."""
    for workers in (1, 2, 4):
        queue = loaded(tmp_path, OMS_WORKERS=str(workers))["Q_CLUSTER"]
        assert queue["retry"] >= queue["timeout"] * (2 + (queue["queue_limit"] + 1) / workers)  # type: ignore[index]
        assert queue["ack_failures"] is True and queue["catch_up"] is False  # type: ignore[index]


def test_each_floor_imports_only_what_stands_below_it():
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "1 kept, 0 broken" in done.stdout


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_is_pinned_with_hashes_and_names_no_address(name):
    text = (ROOT / name).read_text()
    assert "://" not in text and "--index-url" not in text and "--find-links" not in text
    entries = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"(?m)^#.*\n", "", text).strip())
    assert len(entries) > 40
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==\S+ ", entry), entry
        assert entry.count("--hash=sha256:") >= 1, entry


def test_the_lock_covers_what_the_project_asks_for():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(text: str) -> set[str]:
        return {
            re.match(r"[A-Za-z0-9._-]+", line)[0].lower() for line in text.splitlines() if line[:1].isalnum()
        }  # type: ignore[index]

    runtime = names((ROOT / "requirements.txt").read_text())
    everything = names((ROOT / "requirements-dev.txt").read_text())
    assert runtime <= everything
    assert names("\n".join(project["dependencies"])) <= runtime
    assert names("\n".join(project["optional-dependencies"]["dev"])) <= everything


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        return [path for path in ROOT.rglob("*.py") if ".venv" not in path.parts]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name]


def test_no_file_holds_a_machine_path_or_a_package_index():
    own = str(ROOT)
    index = re.compile(r"(--(extra-)?index-url|PIP_INDEX_URL\s*=|//[^/\s]*/simple/)")
    home = re.compile(r"(?<![\w.])/(home|Users|root)/[a-z]")
    wrong = []
    for path in tracked():
        if path == Path(__file__) or not path.is_file():
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        for pattern in (re.escape(own) + r"\b", index, home):
            if found := re.search(pattern, text):
                wrong.append(f"{path.relative_to(ROOT)}: {found[0]}")
    assert wrong == []


def run_pytest(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    options = ["-q", "-p", "no:cacheprovider", "-p", "tests.conftest", "--continue-on-collection-errors"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-c", str(ROOT / "pyproject.toml"), str(folder)],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith(("OMS_", "PYTEST"))}
        | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_where_nothing_may_skip_a_skip_is_a_failure(tmp_path):
    (tmp_path / "test_a.py").write_text("import pytest\ndef test_a():\n    pytest.skip('no reason')\n")
    (tmp_path / "test_b.py").write_text("import pytest\npytest.skip('whole file', allow_module_level=True)\n")
    assert run_pytest(tmp_path).returncode in (0, 5)
    strict = run_pytest(tmp_path, OMS_NO_SKIP="1")
    assert strict.returncode == 1
    assert strict.stdout.count("skipped while OMS_NO_SKIP=1") >= 2
