"""Field encryption with named keys, so that keys can be rotated: 'k2:…,k1:…', the first one writes."""

from __future__ import annotations

from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


@lru_cache(maxsize=4)
def _keys(text: str) -> dict[str, Fernet]:
    found: dict[str, Fernet] = {}
    for part in text.split(","):
        name, _, key = part.strip().partition(":")
        try:
            found[name] = Fernet(key.encode())
        except ValueError as error:
            raise ImproperlyConfigured(f"OMS_FIELD_KEYS: key '{name}' is not a Fernet key.") from error
        if not name or len(name) > 12 or not name.isalnum():
            raise ImproperlyConfigured(
                "OMS_FIELD_KEYS: each key needs a short name of letters and digits: 'k1:…'."
            )
    return found


def encrypt(text: str) -> str:
    """Encrypt with the first key; the result starts with its name."""
    name, fernet = next(iter(_keys(settings.FIELD_KEYS).items()))
    return f"{name}:{fernet.encrypt(text.encode()).decode()}"


def decrypt(stored: str) -> str:
    """Raises ValueError when the key is missing or the text was tampered with."""
    name, _, token = stored.partition(":")
    fernet = _keys(settings.FIELD_KEYS).get(name)
    if fernet is None:
        raise ValueError(f"no field key named '{name}': add it to OMS_FIELD_KEYS")
    try:
        return fernet.decrypt(token.encode()).decode()
    except InvalidToken as error:
        raise ValueError("encrypted field cannot be read with its key") from error


def key_names() -> list[str]:
    return list(_keys(settings.FIELD_KEYS))
