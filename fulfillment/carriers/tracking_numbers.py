"""Is a typed tracking number one that its carrier can have given out? By its form and check digit (pure).

Channels take a wrong number without a word and drop it later, so a slip of the keyboard is caught where it is made.
Forms as the carriers publish them: UPS 1Z; USPS 20 or 22 digits with or without 420 and the ZIP code before them; FedEx
12, 15, 20 or 22 digits; DHL Express 10; the post of any country by UPU standard S10. A carrier has rarer forms, too:
therefore the answer is a doubt for a person, never a refusal.
"""

from __future__ import annotations

import re

from fulfillment.carriers.table_rate.labels import PREFIX, is_tracking_number

_S10 = re.compile(r"[A-Z]{2}(\d{8})(\d)[A-Z]{2}")


def compact(number: str) -> str:
    """As carriers write it: upper case, without spaces and hyphens."""
    return re.sub(r"[\s-]", "", number).upper()


def doubt(carrier: str, number: str) -> str:
    """Why `number` is hardly one of `carrier` (any words that name it), as a sentence; empty when nothing is odd."""
    text, names = compact(number), set(re.findall(r"[a-z0-9]+", carrier.lower()))
    if text.startswith(PREFIX) and text[len(PREFIX) :].isdigit():
        fits, form = is_tracking_number(text), f"{PREFIX} and 18 digits, the last one a check digit"
    elif "ups" in names:
        fits, form = _ups(text), "1Z and 16 letters or digits, the last one a check digit"
    elif "usps" in names:
        fits, form = (
            _usps(text),
            "20 or 22 digits, or 13 characters such as LZ123456785US, with a check digit",
        )
    elif "fedex" in names:
        fits, form = _fedex(text), "12, 15, 20 or 22 digits with a check digit"
    elif names >= {"dhl", "express"}:
        fits, form = _dhl_express(text), "10 digits, the last one a check digit"
    else:
        return ""
    return (
        ""
        if fits
        else f"{number.strip()} does not look like a number of {carrier.strip()}: those are {form}."
    )


def _ups(text: str) -> bool:
    if not re.fullmatch(r"1Z[0-9A-Z]{15}\d", text):
        # mail innovations, freight and InfoNotice have plain digits of other lengths
        return bool(re.fullmatch(r"\d{9}|\d{12}|\d{18}|\d{22,34}|T\d{10}", text))
    values = [int(char) if char.isdigit() else (ord(char) - 3) % 10 for char in text[2:17]]
    total = sum(values[0::2]) + 2 * sum(values[1::2])
    return -total % 10 == int(text[17])


def _usps(text: str) -> bool:
    if match := _S10.fullmatch(text):
        return _s10(match[1]) == int(match[2])
    for length in (5, 9):  # the barcode begins with 420 and where it goes
        if text.startswith("420") and len(text) in (3 + length + 20, 3 + length + 22):
            text = text[3 + length :]
            break
    return bool(re.fullmatch(r"\d{20}|\d{22}", text)) and _mod10(text)


def _s10(digits: str) -> int:
    rest = 11 - sum(int(d) * w for d, w in zip(digits, (8, 6, 4, 2, 3, 5, 9, 7), strict=True)) % 11
    return {10: 0, 11: 5}.get(rest, rest)


def _fedex(text: str) -> bool:
    if re.fullmatch(r"\d{12}", text):
        weights = (3, 1, 7) * 4
        return sum(int(d) * w for d, w in zip(text[:11], weights, strict=False)) % 11 % 10 == int(text[11])
    if re.fullmatch(r"\d{15}", text):
        return _mod10(text)
    if re.fullmatch(r"96\d{20}", text):
        return _mod10(text[-15:])
    return bool(re.fullmatch(r"\d{20}|\d{22}|\d{34}", text))


def _dhl_express(text: str) -> bool:
    # JJD and JD numbers are those of pieces
    return bool(re.fullmatch(r"JJ?D[0-9A-Z]{10,24}", text)) or (
        bool(re.fullmatch(r"\d{10}", text)) and int(text[:9]) % 7 == int(text[9])
    )


def _mod10(digits: str) -> bool:
    """The check digit of GS1: weights 3 and 1 from the right."""
    total = sum(int(d) * (3 if i % 2 == 0 else 1) for i, d in enumerate(reversed(digits[:-1])))
    return -total % 10 == int(digits[-1])
