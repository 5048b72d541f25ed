"""Secrets and buyers' data never reach a log or the call journal."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

MASK = "***"
#: names of headers, form fields and JSON keys whose values are secrets
_SECRET_NAME = re.compile(
    r"authoriz|token|secret|passw|hmac|signature|api[-_]?key|access[-_]?key|credential|cookie|private[-_]?key|client_id$|"
    r"auth_?code",
    re.I,
)
#: names whose values identify a buyer
_PERSONAL_NAME = re.compile(
    r"^(e-?mail.*|.*_?email|phone.*|.*phone(number)?|first_?name|last_?name|full_?name|(ship_?to_?|buyer_?|recipient_?|"
    r"customer_?)name|address(_?line)?_?[0-9]?|street.*|addressline[0-9]|company(_?name)?|attention_?name|contact_?name)$",
    re.I,
)
#: containers that describe a person: inside, every text is masked but where in the world it is
_PERSON = re.compile(r"address|customer|buyer|recipient|ship_?to|shipper|consignee|contact", re.I)
_PLACE = re.compile(r"country|state|province|region|type$|id$", re.I)
#: in a cut document the container is not known
_PERSON_LEAF = re.compile(r"^(name|city|zip|postal_?code|post_?code)$", re.I)
_ELEMENT = re.compile(r"(?P<open><(?P<name>[\w:.-]{1,60})[^<>]*>)[^<]+(?=</)")
_LOOK_AT = 8 * 1024  # masking must stay cheap however long a body is
_TOKENS = re.compile(
    r"(?P<keep>bearer\s+|basic\s+)[\w.~+/=-]{6,}|oms_[0-9a-z]{8}_[\w-]{10,}|shp(?:at|ca|pa|ss)_[0-9a-f]{6,}|Atz[ar]\|[\w|.-]{6,}|"
    r"eyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]*|whsec_[\w+/=-]{6,}|EZ[AT]K[0-9a-f]{8}[\w]*",
    re.I,
)
_PAIR = re.compile(r"(?P<name>[\w.-]{2,40})(?P<eq>=)(?P<value>[^&\s\"']+)")


def secret_name(name: str) -> bool:
    return bool(_SECRET_NAME.search(name))


@lru_cache(maxsize=5000)
def hidden_name(name: str) -> bool:
    return bool(secret_name(name) or _PERSONAL_NAME.match(name))


def mask_text(text: str) -> str:
    """Mask token-shaped words and `name=value` pairs with a secret name in free text."""
    text = _TOKENS.sub(lambda found: (found["keep"] or "") + MASK, text)
    return _PAIR.sub(
        lambda found: f"{found['name']}={MASK}" if hidden_name(found["name"]) else found[0], text
    )


def mask_value(value: Any, name: str = "", person: bool = False) -> Any:
    """A copy of parsed JSON with secrets and personal data masked by key name, at any depth."""
    if isinstance(value, dict):
        person = person or _describes_person(name)
        return {key: mask_value(item, str(key), person) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [mask_value(item, name, person) for item in value]
    if name and value not in (None, "") and hidden_name(name):
        return MASK
    if not isinstance(value, str):
        return value
    if person and value and not _PLACE.search(name):
        return MASK
    return mask_text(value) if len(value) > 7 else value


@lru_cache(maxsize=5000)
def _describes_person(name: str) -> bool:
    return bool(_PERSON.search(name))


def mask_headers(headers: dict[str, str]) -> dict[str, str]:
    return {name: MASK if secret_name(name) else mask_text(value) for name, value in headers.items()}


def excerpt(body: bytes | str | None, limit: int = 2000) -> str:
    """At most `limit` characters of a body, masked. JSON is masked by key, other text by shape."""
    if not body:
        return ""
    text = body[:_LOOK_AT].decode("utf-8", "replace") if isinstance(body, bytes) else body[:_LOOK_AT]
    if text.lstrip()[:1] in "{[":
        try:
            return json.dumps(mask_value(json.loads(text)), ensure_ascii=False)[:limit]
        except ValueError:
            # cut or malformed JSON cannot be masked by key: keep the shape, drop the strings
            text = re.sub(r'("(?P<name>[^"\\]{1,60})"\s*:\s*)"(?:[^"\\]|\\.)*"?', _mask_member, text)
    elif "\x00" in text[:1000]:
        return f"[{len(body)} bytes]"
    elif text.lstrip()[:1] == "<":
        text = _ELEMENT.sub(_mask_element, text)
    return mask_text(text)[:limit]


def _leaf_hidden(name: str) -> bool:
    return hidden_name(name) or bool(_PERSON_LEAF.match(name))


def _mask_member(found: re.Match[str]) -> str:
    return f'{found[1]}"{MASK}"' if _leaf_hidden(found["name"]) else found[0]


def _mask_element(found: re.Match[str]) -> str:
    return f"{found['open']}{MASK}" if _leaf_hidden(found["name"].rpartition(":")[2]) else found[0]
