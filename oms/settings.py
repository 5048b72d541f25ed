"""Settings, all from the environment. Unsafe combinations refuse to start with one clear sentence.

Every variable is described in README.md, section "Environment".
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
from base64 import urlsafe_b64encode
from pathlib import Path
from zoneinfo import ZoneInfo

import dj_database_url
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent


def _flag(name: str, default: bool = False) -> bool:
    value = os.environ.get(name, "").strip().lower()
    if value not in ("", "0", "1", "true", "false", "yes", "no"):
        raise ImproperlyConfigured(f"{name} is '{value}': use 1 or 0.")
    return default if value == "" else value in ("1", "true", "yes")


def _number(name: str, default: int, low: int, high: int) -> int:
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    if not text.isdigit() or not low <= int(text) <= high:
        raise ImproperlyConfigured(f"{name} is '{text}': use a whole number from {low} to {high}.")
    return int(text)


HOME = Path(os.environ.get("OMS_HOME") or BASE_DIR / "var").resolve()
DEBUG = _flag("OMS_DEBUG")
TESTING = "pytest" in sys.modules

# --- database -----------------------------------------------------------------------------------
DATABASE_URL = os.environ.get("DATABASE_URL", "")
EMBEDDED = not DATABASE_URL or DATABASE_URL.startswith("sqlite")
try:
    HOME.mkdir(parents=True, exist_ok=True)
except OSError as error:
    raise ImproperlyConfigured(
        f"OMS_HOME '{HOME}' cannot be made: name a directory that can be written."
    ) from error
try:
    database = dj_database_url.parse(DATABASE_URL or f"sqlite:///{HOME / 'lading.sqlite3'}")
except (ValueError, KeyError) as error:
    raise ImproperlyConfigured(
        "DATABASE_URL cannot be read: use postgres://user:password@host:5432/name."
    ) from error
if EMBEDDED:
    # IMMEDIATE: a transaction that reads first and writes later must not fail with "database is locked".
    database["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;",
    }
elif database["ENGINE"] == "django.db.backends.postgresql":
    pool = _number("OMS_DB_POOL", 0, 0, 500)
    if pool:
        database["OPTIONS"] = {"pool": {"min_size": 1, "max_size": pool, "timeout": 10}}
    else:
        database["CONN_MAX_AGE"] = 300
        database["CONN_HEALTH_CHECKS"] = True
    database["DISABLE_SERVER_SIDE_CURSORS"] = True  # safe behind PgBouncer in transaction mode
else:
    raise ImproperlyConfigured("DATABASE_URL must name a PostgreSQL or SQLite database.")
DATABASES = {"default": database}
if TESTING and EMBEDDED:
    # A file, not memory: threads and live servers then get connections and locks of their own, as in real life.
    database["TEST"] = {"NAME": str(Path(tempfile.gettempdir()) / f"lading-test-{os.getpid()}.sqlite3")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- secrets ------------------------------------------------------------------------------------


def _embedded_secrets() -> dict[str, str]:
    """Keys of a single-machine installation, made once and kept beside its database."""
    path = HOME / "secrets.json"
    if not path.exists():
        made = {
            "OMS_SECRET_KEY": secrets.token_urlsafe(50),
            "OMS_FIELD_KEYS": f"k1:{urlsafe_b64encode(secrets.token_bytes(32)).decode()}",
        }
        temporary = path.with_suffix(f".{os.getpid()}")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump(made, file)
        try:
            os.link(temporary, path)  # the first process wins, whoever else starts at the same moment
        except FileExistsError:
            pass
        finally:
            temporary.unlink(missing_ok=True)
    found: dict[str, str] = json.loads(path.read_text())
    return found


_stored = _embedded_secrets() if EMBEDDED or TESTING else {}
SECRET_KEY = os.environ.get("OMS_SECRET_KEY") or _stored.get("OMS_SECRET_KEY", "")
FIELD_KEYS = os.environ.get("OMS_FIELD_KEYS") or _stored.get("OMS_FIELD_KEYS", "")
if not SECRET_KEY:
    raise ImproperlyConfigured(
        "OMS_SECRET_KEY is not set: give a long random text, the same on every machine."
    )
if len(SECRET_KEY) < 32:
    raise ImproperlyConfigured("OMS_SECRET_KEY is too short: use at least 32 random characters.")
if not FIELD_KEYS:
    raise ImproperlyConfigured(
        "OMS_FIELD_KEYS is not set: use 'id:key' with a Fernet key (manage.py doctor --keys prints one)."
    )
for _number_of, _entry in enumerate(FIELD_KEYS.split(","), start=1):
    _id, _, _key = _entry.strip().partition(":")
    try:
        if not _id.isalnum() or len(_id) > 12:
            raise ValueError
        Fernet(_key)
    except ValueError as error:
        raise ImproperlyConfigured(
            f"OMS_FIELD_KEYS: entry {_number_of} is not 'id:key': a short id of letters and digits, then a Fernet"
            " key (32 bytes in URL-safe base64)."
        ) from error
SECRET_KEY_FALLBACKS = [key for key in os.environ.get("OMS_SECRET_KEY_FALLBACKS", "").split(",") if key]
if DEBUG and not EMBEDDED and not TESTING:
    raise ImproperlyConfigured(
        "OMS_DEBUG=1 together with a PostgreSQL DATABASE_URL shows secrets to visitors: unset one."
    )

# --- address ------------------------------------------------------------------------------------
BASE_URL = os.environ.get("OMS_BASE_URL", "http://127.0.0.1:8000").rstrip("/")
if not BASE_URL.startswith(("http://", "https://")):
    raise ImproperlyConfigured("OMS_BASE_URL must begin with http:// or https://.")
SECURE = BASE_URL.startswith("https://")
_hosts = os.environ.get("OMS_ALLOWED_HOSTS", "")
ALLOWED_HOSTS = [host.strip() for host in _hosts.split(",") if host.strip()] or [
    "127.0.0.1",
    "localhost",
    "[::1]",
    "testserver",
]
if not EMBEDDED and not _hosts and not TESTING:
    raise ImproperlyConfigured(
        "OMS_ALLOWED_HOSTS is not set: name the host that users type, for example oms.example.com."
    )
if "127.0.0.1" not in ALLOWED_HOSTS and "*" not in ALLOWED_HOSTS:
    ALLOWED_HOSTS.append("127.0.0.1")  # health checks on the machine itself
CSRF_TRUSTED_ORIGINS = [BASE_URL]
try:
    HOST_MAP: dict[str, str] = json.loads(os.environ.get("OMS_HOST_MAP") or "{}")
    if not isinstance(HOST_MAP, dict) or not all(isinstance(v, str) for v in HOST_MAP.values()):
        raise ValueError
except ValueError as error:
    raise ImproperlyConfigured(
        'OMS_HOST_MAP must be JSON such as {"api.ebay.com": "http://127.0.0.1:8790/ebay"}.'
    ) from error

# --- applications -------------------------------------------------------------------------------
INSTALLED_APPS = [
    "oms.core.apps.CoreConfig",
    "inventory.apps.InventoryConfig",
    "procurement.apps.ProcurementConfig",
    "oms.orders.apps.OrdersConfig",
    "fulfillment.apps.FulfillmentConfig",
    "returns.apps.ReturnsConfig",
    "channels.apps.ChannelsConfig",
    "oms.control.apps.ControlConfig",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django_htmx",
    "django_filters",
    "django_q",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "import_export",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "lucide",
]
MIDDLEWARE = [
    "oms.core.middleware.RequestContextMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "oms.core.middleware.PrincipalMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "oms.control.middleware.SecondFactorMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "oms.core.middleware.SecurityHeadersMiddleware",
]
ROOT_URLCONF = "oms.urls"
WSGI_APPLICATION = "oms.wsgi.application"
ASGI_APPLICATION = "oms.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "oms.core.context.shell",
                "oms.control.context.switch",
            ],
            "builtins": ["oms.core.templatetags.ui"],
        },
    },
]

# --- people -------------------------------------------------------------------------------------
AUTH_USER_MODEL = "core.User"
LOGIN_URL = "login"
#: people who manage, refund or see buyers' data must log in with a second factor
REQUIRE_SECOND_FACTOR = _flag("OMS_REQUIRE_2FA", not EMBEDDED and not TESTING)
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "login"
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
SESSION_ENGINE = "django.contrib.sessions.backends.db"
SESSION_COOKIE_AGE = 8 * 3600
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE
if SECURE:
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"
    SECURE_SSL_REDIRECT = _flag("OMS_SSL_REDIRECT", True)
    SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    if _flag("OMS_BEHIND_PROXY"):
        SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

# --- words, times, files ------------------------------------------------------------------------
LANGUAGE_CODE = "en-us"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"
_kept_zone = HOME / "time_zone"  # the demo's, so that every command on its database means the same days
BUSINESS_TIME_ZONE = os.environ.get("OMS_TIME_ZONE") or (
    _kept_zone.read_text().strip() if EMBEDDED and not TESTING and _kept_zone.exists() else "UTC"
)
try:
    ZoneInfo(BUSINESS_TIME_ZONE)
except (KeyError, ValueError, OSError) as error:
    raise ImproperlyConfigured(
        f"OMS_TIME_ZONE '{BUSINESS_TIME_ZONE}' is unknown: use a name such as America/New_York."
    ) from error
STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = Path(os.environ.get("OMS_STATIC_ROOT") or HOME / "static")
if EMBEDDED:
    STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # whitenoise warns when it is missing
MEDIA_ROOT = HOME / "files"
# scheduled files by mail; without a host nothing is mailed
EMAIL_HOST = os.environ.get("OMS_EMAIL_HOST", "")
EMAIL_PORT = int(os.environ.get("OMS_EMAIL_PORT") or 587)
EMAIL_HOST_USER = os.environ.get("OMS_EMAIL_USER", "")
EMAIL_HOST_PASSWORD = os.environ.get("OMS_EMAIL_PASSWORD", "")
EMAIL_USE_SSL = EMAIL_PORT == 465
EMAIL_USE_TLS = bool(EMAIL_HOST_USER) and not EMAIL_USE_SSL
EMAIL_TIMEOUT = 20
DEFAULT_FROM_EMAIL = os.environ.get("OMS_EMAIL_FROM") or "lading@localhost"
WHITENOISE_USE_FINDERS = EMBEDDED or TESTING
WHITENOISE_AUTOREFRESH = DEBUG
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if EMBEDDED or TESTING
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 1024 * 1024
FILE_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 5000
IMPORT_EXPORT_ESCAPE_FORMULAE_ON_EXPORT = True
# without these two, import and export are open to everybody on the staff
IMPORT_EXPORT_IMPORT_PERMISSION_CODE = "change"
IMPORT_EXPORT_EXPORT_PERMISSION_CODE = "view"
OTP_ADMIN_HIDE_SENSITIVE_DATA = True  # nobody reads another person's second factor
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"

# --- tasks --------------------------------------------------------------------------------------
# The ORM broker on the same alias makes enqueueing part of the business transaction. Retries and
# backoff are ours (rows with next_attempt_at); `retry` only covers a worker that died.
_workers, _timeout, _queue_limit = _number("OMS_WORKERS", 2, 1, 64), 60, 4
Q_CLUSTER = {
    "name": "oms",
    "orm": "default",
    "broker_class": "oms.core.broker.Broker",
    "workers": _workers,
    "timeout": _timeout,
    # Counted from the dequeue, so waiting in the local queue counts too; less than this runs live tasks twice.
    "retry": 2 * _timeout + -(-_timeout * (_queue_limit + 1) // _workers) + 30,
    "queue_limit": _queue_limit,
    "bulk": 1,
    "max_attempts": 3,
    "ack_failures": True,
    "catch_up": False,
    "poll": 0.1,
    "save_limit": 1000,
    "recycle": 10_000,
    "scheduler": False,
    "label": "Task queue",
}

# --- API ----------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "oms.core.api.auth.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["oms.core.api.auth.ScopePermission"],
    "DEFAULT_PAGINATION_CLASS": "oms.core.api.pagination.KeysetPagination",
    "DEFAULT_FILTER_BACKENDS": ["oms.core.api.filters.StrictFilterBackend"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "oms.core.api.negotiation.Negotiation",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["oms.core.api.parsers.PlainJSONParser"],
    "DEFAULT_THROTTLE_CLASSES": ["oms.core.api.auth.TokenThrottle"],
    "DEFAULT_THROTTLE_RATES": {"token": os.environ.get("OMS_API_RATE", "600/min")},
    "DEFAULT_SCHEMA_CLASS": "oms.core.api.schema.LadingSchema",
    "EXCEPTION_HANDLER": "oms.core.api.problems.handler",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
    "COERCE_DECIMAL_TO_STRING": True,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Lading API",
    "DESCRIPTION": "One stock figure and one order queue for every channel. Errors are RFC 9457 problem documents. "
    "No text may hold U+0000. Each answer to a token tells its rate in `RateLimit-Policy` and `RateLimit`.",
    "VERSION": "1.0.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "OrderKind": "oms.orders.models.Order.Kind",
        "OrderState": "oms.orders.models.Order.State",
        "HoldReason": "oms.orders.models.Hold.Reason",
        "SkuAliasKind": "inventory.models.SkuAlias.Kind",
        "ShipmentState": "fulfillment.models.Shipment.State",
        "PurchaseOrderState": "procurement.models.PurchaseOrder.State",
        "ReturnState": "returns.models.Rma.State",
        "ImportState": "oms.control.models.ImportFile.State",
        "WebhookDeliveryState": "oms.control.models.WebhookDelivery.State",
        "ChannelState": "channels.models.ChannelAccount.State",
        "ValuationMethod": "inventory.models.Sku.Valuation",
        "ImportKind": "oms.control.models.ImportFile.Kind",
        "ReturnOutcome": "returns.models.Disposition.Outcome",
        "EndpointState": "oms.control.models.WebhookEndpoint.State",
        "ApprovalState": "inventory.models.AdjustmentRequest.State",
        "EvidenceKind": "inventory.models.Evidence.Kind",
        "ActiveOrPaused": ["active", "paused"],
    },
}

# --- logs ---------------------------------------------------------------------------------------
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "oms.core.logs.JsonFormatter"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["out"], "level": os.environ.get("OMS_LOG_LEVEL", "WARNING")},
    "loggers": {
        "lading": {"level": os.environ.get("OMS_LOG_LEVEL", "INFO"), "handlers": ["out"], "propagate": False},
        "django-q": {"level": "WARNING", "handlers": ["out"], "propagate": False},
        "httpx": {"level": "WARNING"},
    },
}
SILENCED_SYSTEM_CHECKS = [
    # PostgreSQL only; SQLite keeps the constraint through an expression index of the same meaning
    "models.W047",
]
