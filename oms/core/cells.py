"""A figure that is edited where it stands: a button in a table cell that turns into a small form and back.

The form carries the value that the person saw. When it is another one by now, the answer is 409 with both, and the
person keeps theirs or takes the new one; nobody's change is lost unseen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from oms.core.errors import UserError
from oms.core.screens import toast


@dataclass(frozen=True)
class Cell:
    """A whole number that may be edited at `url`; `label` says what it is, with its object."""

    url: str
    label: str
    value: int
    most: int = 1_000_000


def answer(
    request: HttpRequest, current: Callable[[], Cell], save: Callable[[int, int], bool]
) -> HttpResponse:
    """GET: the cell, or with `?edit=1` its form. POST: save and show the cell again.

    `save(seen, new)` writes the new value if the present one is still the seen one, in one transaction, and answers
    whether it was; it may raise `UserError`, which is shown in the form (422).
    """
    cell = current()
    if request.method == "GET":
        return _show(request, "form" if request.GET.get("edit") else "cell", cell, focus=True)
    text, seen = request.POST.get("value", "").strip(), request.POST.get("seen", "")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        return _show(request, "form", cell, typed=text, error=f"'{text}' is not a whole number.", status=422)
    try:
        if not seen.isdigit() or not save(int(seen), int(text)):
            return _show(request, "form", current(), typed=text, conflict=True, status=409)
    except UserError as error:
        return _show(request, "form", cell, typed=text, error=error.message, status=422)
    return toast(_show(request, "cell", current(), focus=True), f"{cell.label}: {text}")


def _show(request: HttpRequest, part: str, cell: Cell, *, status: int = 200, **more: Any) -> HttpResponse:
    context = {"cell": cell, "typed": cell.value, **more}
    return render(request, f"ui/cell{'_form' if part == 'form' else ''}.html", context, status=status)
