"""Conditions of routing rules: a field, an operator, values; nested with all / any / not.

Fields of lines are judged on every line or on any line, and the condition says which: `"lines": "any"` or
`"all"`. Nothing skips an order because it has more than one line.

    {"all": [{"field": "country", "op": "eq", "value": "US"},
             {"any": [{"field": "weight_g", "op": "lt", "value": 5000},
                      {"field": "sku", "op": "starts", "value": ["SMALL-"], "lines": "all"}]},
             {"not": {"field": "postal", "op": "between", "value": ["99500", "99999"]}}]}

Text is compared without regard to case, numbers as numbers; which one it is depends on the field alone, so
that SKU 0123 is never 123.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from fulfillment.routing.model import OrderView

ORDER_FIELDS: dict[str, Callable[[OrderView], Any]] = {
    "channel": lambda order: order.channel,
    "country": lambda order: order.country,
    "region": lambda order: order.region,
    "postal": lambda order: order.postal,
    "value": lambda order: order.value,
    "weight_g": lambda order: order.weight_g,
    "service": lambda order: order.service,
    "risk": lambda order: order.risk,
    "currency": lambda order: order.currency,
    "units": lambda order: sum(line.quantity for line in order.lines),
    "lines": lambda order: len(order.lines),
    "tags": lambda order: order.tags,
    "stock_at": lambda order: order.stock_at,
}
LINE_FIELDS: dict[str, Callable[[Any], Any]] = {
    "sku": lambda line: line.sku,
    "quantity": lambda line: line.quantity,
    "is_kit": lambda line: line.is_kit,
    "attributes": lambda line: line.attributes,
}
NUMBERS = ("value", "weight_g", "units", "lines", "quantity")
LISTS = ("tags", "stock_at", "attributes")
OPERATORS = (
    "in",
    "not_in",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "starts",
    "between",
    "contains",
    "not_contains",
)
_NUMBER_OPERATORS = ("in", "not_in", "eq", "ne", "lt", "le", "gt", "ge", "between")
_LIST_OPERATORS = ("contains", "not_contains", "in", "not_in")
_TEXT_OPERATORS = ("in", "not_in", "eq", "ne", "starts", "between", "contains", "not_contains")


#: groups within groups; more is a program's mistake, and routing reads them one in another
DEEPEST = 20


def validate(rule: str, when: Any, depth: int = 0) -> None:
    """Raise ValueError naming the rule and the word that is wrong."""
    if not isinstance(when, dict):
        raise ValueError(f"{rule}: a condition is an object with field, op and value, or all, any or not")
    if depth > DEEPEST:
        raise ValueError(f"{rule}: its conditions lie more than {DEEPEST} deep; write them flatter")
    if not when:
        return
    for group in ("all", "any", "not"):
        if group in when:
            if len(when) > 1:
                rest = ", ".join(sorted(str(word) for word in when if word != group))
                raise ValueError(f"{rule}: {rest} stands beside '{group}'; put it into a group of its own")
            inner = [when[group]] if group == "not" else when[group]
            if not isinstance(inner, list | tuple):
                raise ValueError(f"{rule}: '{group}' is a list of conditions")
            for one in inner:
                validate(rule, one, depth + 1)
            return
    if unknown := sorted(str(word) for word in set(when) - {"field", "op", "value", "lines"}):
        raise ValueError(
            f"{rule}: unknown word {', '.join(unknown)}; a condition has field, op, value, lines"
        )
    name, operator = when.get("field"), when.get("op")
    if not isinstance(name, str) or (name not in ORDER_FIELDS and name not in LINE_FIELDS):
        raise ValueError(f"{rule}: unknown field '{name}'; use {', '.join([*ORDER_FIELDS, *LINE_FIELDS])}")
    if operator not in OPERATORS:
        raise ValueError(f"{rule}: unknown operator '{operator}'; use {', '.join(OPERATORS)}")
    fitting = _NUMBER_OPERATORS if name in NUMBERS else _LIST_OPERATORS if name in LISTS else _TEXT_OPERATORS
    if operator not in fitting:
        raise ValueError(f"{rule}: '{name}' cannot be compared with '{operator}'; use {', '.join(fitting)}")
    if "value" not in when:
        raise ValueError(f"{rule}: the condition on '{name}' has no value")
    values = _many(when["value"])
    if any(not isinstance(value, str | int | float | Decimal) for value in values):
        raise ValueError(f"{rule}: '{name}' is compared with a text, a number, or a list of them")
    if operator == "between" and len(values) != 2:
        raise ValueError(f"{rule}: '{name}' between needs two values, the lowest and the highest")
    if name in NUMBERS and any(_number(value) is None for value in values):
        raise ValueError(f"{rule}: '{name}' needs a number, not {_show(when['value'])}")
    if name in LINE_FIELDS and when.get("lines") not in ("any", "all"):
        raise ValueError(f"{rule}: say whether '{name}' must hold for any line or for all lines")


def failing(when: dict[str, Any], order: OrderView) -> str:
    """Empty when the condition holds, else the first part that fails, as people read it."""
    if not when:
        return ""
    if "all" in when:
        return next((why for inner in when["all"] if (why := failing(inner, order))), "")
    if "any" in when:
        reasons = [failing(inner, order) for inner in when["any"]]
        return "" if not reasons or "" in reasons else " and ".join(reasons)
    if "not" in when:
        return "" if failing(when["not"], order) else f"it is excluded that {describe(when['not'])}"
    name, operator, value = when["field"], when["op"], when["value"]
    if name in ORDER_FIELDS:
        found = ORDER_FIELDS[name](order)
        return "" if _holds(name, found, operator, value) else f"{name} is {_show(found)}"
    read = LINE_FIELDS[name]
    verdicts = [_holds(name, read(line), operator, value) for line in order.lines]
    if when["lines"] == "any":
        return "" if any(verdicts) else f"no line has {describe(when)}"
    odd = next((line for line, good in zip(order.lines, verdicts, strict=True) if not good), None)
    return "" if odd is None else f"{name} of {odd.sku} is {_show(read(odd))}"


def describe(when: dict[str, Any]) -> str:
    """The condition as a short sentence."""
    if not when:
        return "always"
    for group, word in (("all", " and "), ("any", " or ")):
        if group in when:
            return word.join(describe(inner) for inner in when[group])
    if "not" in when:
        return f"not ({describe(when['not'])})"
    words = {
        "eq": "is", "ne": "is not", "lt": "<", "le": "≤", "gt": ">", "ge": "≥", "in": "is one of",
        "not_in": "is none of", "starts": "starts with", "not_contains": "does not contain",
    }  # fmt: skip
    return f"{when['field']} {words.get(when['op'], when['op'])} {_show(when['value'])}"


def _show(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or "none"
    return str(value) if value not in ("", None) else "empty"


def _many(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _number(value: Any) -> Decimal | None:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None  # NaN can be compared with nothing


def _holds(name: str, found: Any, operator: str, value: Any) -> bool:
    if name in NUMBERS:
        return _number_holds(Decimal(found), operator, [Decimal(str(item)) for item in _many(value)])
    values = [str(item).casefold() for item in _many(value)]
    if name in LISTS:
        shared = {item.casefold() for item in found} & set(values)
        return bool(shared) == (operator in ("contains", "in"))
    text = str(found).casefold()
    if operator in ("in", "not_in", "eq", "ne"):
        return (text in values) == (operator in ("in", "eq"))
    if operator in ("contains", "not_contains"):
        return any(item in text for item in values) == (operator == "contains")
    if operator == "starts":
        return text.startswith(tuple(values))
    low, high = values  # between: a ZIP+4 lies in a range of ZIP codes
    return low <= text[: len(low)] and text[: len(high)] <= high


def _number_holds(found: Decimal, operator: str, values: list[Decimal]) -> bool:
    if operator in ("in", "not_in", "eq", "ne"):
        return (found in values) == (operator in ("in", "eq"))
    if operator == "between":
        return values[0] <= found <= values[1]
    limit = values[0]
    return {"lt": found < limit, "le": found <= limit, "gt": found > limit, "ge": found >= limit}[operator]
