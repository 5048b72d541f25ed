"""Files over HTTP: brought in as text, checked, applied, taken back. The same steps as on the screen."""

from __future__ import annotations

from typing import Any

import django_filters
from django.core.files.uploadedfile import SimpleUploadedFile
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import BaseRouter

from oms.control.imports import running
from oms.control.models import ImportFile, ImportRow
from oms.core.access import Scope, principal_of, scope_of
from oms.core.actor import actor_of
from oms.core.api.fields import SparseFieldsMixin
from oms.core.api.forms import Form
from oms.core.api.problems import renamed
from oms.core.api.resources import Resource
from oms.core.errors import NotAllowed


class ImportSerializer(SparseFieldsMixin, serializers.ModelSerializer[ImportFile]):
    job = serializers.IntegerField(source="job_id", read_only=True, allow_null=True)
    counts: Any = serializers.DictField(read_only=True)

    class Meta:
        model = ImportFile
        fields = ["id", "kind", "profile", "name", "sha256", "size", "state", "rows", "counts", "job", "created_by",
                  "created_at", "applied_at"]  # fmt: skip
        read_only_fields = fields


class ImportRowSerializer(serializers.ModelSerializer[ImportRow]):
    row = serializers.IntegerField(
        source="number", read_only=True, help_text="line of the file, the header is 1"
    )
    values: Any = serializers.DictField(source="raw", read_only=True)

    class Meta:
        model = ImportRow
        fields = ["row", "level", "column", "message", "values"]
        read_only_fields = fields


class NewImport(Form):
    kind = serializers.ChoiceField(choices=ImportFile.Kind.choices)
    name = serializers.RegexField(
        r"^[^/\\]{1,200}\.(csv|tsv|txt)\Z",
        help_text="of the file, such as count.csv",
        error_messages={"invalid": "Give a file name that ends with .csv, .tsv or .txt, such as count.csv."},
    )
    content = serializers.CharField(
        max_length=4_000_000, trim_whitespace=False, help_text="the file's text, header first"
    )
    channel = serializers.CharField(max_length=40, required=False, allow_blank=True, default="")
    warehouse = serializers.CharField(max_length=20, required=False, allow_blank=True, default="")
    mode = serializers.ChoiceField(choices=["set", "add"], required=False, allow_blank=True, default="")
    profile = serializers.CharField(max_length=40, required=False, allow_blank=True, default="")


class ApplyRequest(Form):
    only_whole = serializers.BooleanField(
        default=False, help_text="nothing at all while one row has an error"
    )
    create_skus = serializers.BooleanField(default=False)
    zero_seen = serializers.BooleanField(default=False, help_text="many levels go to 0, and that is meant")
    again = serializers.BooleanField(default=False, help_text="the same file was applied before; once more")


class ImportFilter(django_filters.FilterSet):
    kind = django_filters.ChoiceFilter(choices=ImportFile.Kind.choices)
    state = django_filters.ChoiceFilter(choices=ImportFile.State.choices)

    class Meta:
        model = ImportFile
        fields = ["kind", "state"]


class ImportViewSet(Resource[ImportFile]):
    """Files and what became of them. A file may name any place: limited tokens may not bring or see one."""

    queryset = ImportFile.objects.select_related("job")
    serializer_class = ImportSerializer
    filterset_class = ImportFilter
    keyset_order = ("-id",)
    lookup_value_regex = "[0-9]{1,18}"
    required_scopes = {"GET": "imports:read", "POST": "imports:write"}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if scope_of(principal_of(request), "imports.run") != Scope():
            raise NotAllowed("Your rights are limited to some places; a file can name others.")

    def _done(self, pk: int, status: int = 200) -> Response:
        return Response(self.get_serializer(self.get_queryset().get(pk=pk)).data, status)

    @extend_schema(request=NewImport, responses={202: ImportSerializer})
    def create(self, request: Request) -> Response:
        """Bring a file in; it is checked in the background, nothing of it is written yet."""
        data = NewImport.read(request)
        upload = SimpleUploadedFile(data.pop("name"), data.pop("content").encode())
        with renamed("file", "content"):
            file = running.receive(upload, data.pop("kind"), actor=actor_of(principal_of(request)), **data)
        return self._done(file.pk, 202)

    @extend_schema(request=ApplyRequest, responses={202: ImportSerializer})
    @action(detail=True, methods=["post"])
    def apply(self, request: Request, pk: str) -> Response:
        """Write what a checked file says, in the background."""
        file = self.get_object()
        data = ApplyRequest.read(request)
        running.begin(file, actor=actor_of(principal_of(request)), **data)
        return self._done(file.pk, 202)

    @extend_schema(request=None, responses={202: ImportSerializer})
    @action(detail=True, methods=["post"])
    def undo(self, request: Request, pk: str) -> Response:
        """Take back what a stock file did, by reversing its movements, in the background."""
        file = self.get_object()
        running.begin_undo(file, actor=actor_of(principal_of(request)))
        return self._done(file.pk, 202)

    @extend_schema(responses=ImportRowSerializer(many=True))
    @action(detail=True, methods=["get"], filterset_class=None, extra_parameters=("limit", "cursor"))
    def problems(self, request: Request, pk: str) -> Response:
        """Rows with errors or notes, with the column and what to mend."""
        file = self.get_object()
        self.keyset_order = ("id",)
        rows: Any = file.problem_rows.all()
        page: Any = self.paginate_queryset(rows)
        return self.get_paginated_response(ImportRowSerializer(page, many=True).data)


def register(router: BaseRouter) -> None:
    router.register("imports", ImportViewSet, basename="import")
