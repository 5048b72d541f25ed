"""Model fields the whole product shares."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models

from oms.core import crypto


def visible(text: str) -> None:
    """Refuses a code with a character that nobody sees: it would look like another code and be none.

    Raises `ValidationError` that names the character and its place.
    """
    for place, char in enumerate(text, 1):
        if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp"):
            raise ValidationError(
                f"Character {place} is invisible (U+{ord(char):04X}): it would look like another code. Type it anew.",
                code="invisible",
            )


class MoneyAmountField(models.DecimalField):
    """An amount with four decimals; the currency stands in a field beside it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_digits", 14)
        kwargs.setdefault("decimal_places", 4)
        super().__init__(*args, **kwargs)


class CurrencyField(models.CharField):
    """ISO 4217 code."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", 3)
        kwargs.setdefault(
            "validators", [RegexValidator(r"^[A-Z]{3}$", "Use a three-letter ISO 4217 code such as USD.")]
        )
        super().__init__(*args, **kwargs)


class EncryptedJSONField(models.TextField):
    """JSON that is unreadable in the database without the key (invariant D2)."""

    # what the type checker takes for the Python value; a TextField's would be str
    _pyi_private_set_type: Any
    _pyi_private_get_type: Any

    def get_prep_value(self, value: Any) -> str | None:
        if value is None:
            return None
        return crypto.encrypt(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str))

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> Any:
        return None if value is None else json.loads(crypto.decrypt(value))

    def to_python(self, value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) else value

    def value_to_string(self, obj: models.Model) -> str:
        return json.dumps(self.value_from_object(obj))


class EncryptedTextField(models.TextField):
    """Text that is unreadable in the database without the key (invariant D2)."""

    def get_prep_value(self, value: Any) -> str | None:
        return None if value is None else crypto.encrypt(str(value))

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> str | None:
        return None if value is None else crypto.decrypt(value)
