"""Screens of evidence: the files of one movement, count or request, and each file as a download."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_http_methods

from inventory import evidence
from oms.core.access import can, require
from oms.core.actor import actor_of
from oms.core.errors import UserError
from oms.core.screens import page, screen


@screen("stock.view", write="stock.work")
@require_http_methods(["GET", "POST"])
def files(request: HttpRequest, kind: str, pk: int) -> HttpResponse:
    """What proves one change of stock, and the form that adds to it."""
    subject = evidence.find_subject(request.user, kind, pk)
    if request.method == "POST":
        require(request.user, evidence.RIGHT, subject.warehouse.code)
        given = evidence.read(request.FILES.getlist("file")[: evidence.MOST + 1])
        if not given:
            raise UserError("file: choose a photo or a PDF.", field="file")
        evidence.attach(subject, given, actor=actor_of(request.user))
        messages.success(request, "Kept.")
        return redirect("inventory:evidence-files", kind=kind, pk=pk)
    context = {
        "subject": subject,
        "kind": kind,
        "files": evidence.of(subject),
        "may_attach": can(request.user, evidence.RIGHT, subject.warehouse.code),
    }
    return page(request, "inventory/evidence.html", context)


@screen("stock.view")
@require_GET
def file(request: HttpRequest, file_id: int) -> HttpResponse:
    """One file, never shown by the browser as part of this site: a download of its sniffed type."""
    row = evidence.find(request.user, file_id)
    answer = HttpResponse(bytes(row.content), content_type=evidence.CONTENT_TYPES[evidence.Kind(row.kind)])
    answer.headers["Content-Disposition"] = (
        f'attachment; filename="{row.kind}-{row.pk}.{row.name.rpartition(".")[2]}"'
    )
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    answer.headers["Cache-Control"] = "private, no-store"
    return answer
