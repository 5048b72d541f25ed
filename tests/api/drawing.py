"""Requests drawn from the API's own description, sent through the whole application in this process.

Two ways of drawing: every boundary value that the description names, valid and just not, and free drawing by
Hypothesis. Both repeat exactly from run to run. Each request finds the same small world (`tests/access/places.py`,
one object of each resource): what it did is rolled back before the next one, so neither order nor number matters.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import hypothesis
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from rest_framework.test import APIClient
from schemathesis import checks as contract
from schemathesis.config import CheckConfig
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.core.parameters import ParameterLocation

from oms.core import tokens
from oms.core.actor import SYSTEM
from oms.core.roles import SCOPES
from tests.access import places
from tests.api.pointing import lost_pointers
from tests.factories import make_user

#: requests for each operation; raise it for a longer search
EACH = int(os.environ.get("OMS_API_EXAMPLES_EACH", "30"))

#: `use_after_free` and `ensure_resource_availability` judge chains of requests. test_chains.py walks them by hand: what
#: each POST makes stands at its Location, what each DELETE takes is gone; a hold given back stays as a record
CHECKS = (
    "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "negative_data_rejection", "positive_data_acceptance", "missing_required_header",
    "unsupported_method", "allow_header_conformance",
)  # fmt: skip
#: a reference that leads nowhere is a fact, not a form; what names a map has, OpenAPI 3.0 cannot describe; text of
#: nothing but white space is as long as described and still says nothing, and which characters nobody sees no pattern
#: tells, nor which countries there are and how the customs' numbers are written; a row of a file follows its own rules
FACTS = {"does_not_exist", "name", "blank", "invisible", "customs", "row"}


class Refused(Failure):
    pass


class World:
    """The description, who asks, and one object of each resource."""

    def __init__(self) -> None:
        owner = make_user("olga", "owner")
        sku = places.build()
        self.known = {
            name.removeprefix("api:"): str(near)
            for name, (near, _) in places.objects(owner, sku).items()
            if name.startswith("api:")
        }
        _, text = tokens.issue(owner, "contract", sorted(SCOPES), actor=SYSTEM)
        self.headers = {"Authorization": f"Bearer {text}"}
        self.schema = schemathesis.openapi.from_dict(description())
        self.schema.app = application()
        # no text holds U+0000, which the database cannot store; the description says so once, at its head
        self.schema.config.generation.allow_x00 = False
        checks = self.schema.config.checks
        checks.missing_required_header = _expect("428")
        # the defaults plus what our own description says about preconditions
        checks.negative_data_rejection = _expect(*"400 404 405 406 409 412 413 415 428".split())
        # 400 is looked at by `accepts_what_it_describes`
        checks.positive_data_acceptance = _expect(*"2xx 304 400 403 404 409 412".split())
        self.operations = [found.ok() for found in self.schema.get_all_operations()]
        self.checks = [contract.not_a_server_error, *contract.CHECKS.get_by_names(list(CHECKS))]
        self.guard = contract.CHECKS.get_by_names(["ignored_auth"])
        self.guarded: set[str] = set()
        self.sent: Counter[str] = Counter()
        self.failures: dict[str, str] = {}

    def path_of(self, operation: Any) -> dict[str, str]:
        """Arguments that lead to an object which is there."""
        arguments = [one.name for one in operation.path_parameters]
        return {name: self.known[_resource(operation)] for name in arguments if name in ("id", "code", "key")}

    def ask(self, case: Any) -> None:
        """Send one request, hold the answer against every check, and take back what it did."""
        label = case.operation.label
        self.sent[label] += 1
        with transaction.atomic():
            answer = case.call(headers=self.headers)
            # an answer of 200 is asked for again without a token and with a wrong one; once proves an operation
            proves = label not in self.guarded and 200 <= answer.status_code < 300
            try:
                checks = [*self.checks, *self.guard] if proves else self.checks
                case.validate_response(answer, checks=checks, headers=self.headers)
                accepts_what_it_describes(case, answer)
                points_somewhere(case, answer)
            except (Failure, FailureGroup) as failure:
                for one in getattr(failure, "exceptions", [failure]):
                    self.failures.setdefault(f"{label}: {one.title}", _told(case, answer, one))
            if proves:
                self.guarded.add(label)
            transaction.set_rollback(True)


def accepts_what_it_describes(case: Any, answer: Any) -> None:
    """A request that keeps to the description may be refused by facts, never for its form."""
    if answer.status_code != 400 or case.meta is None or not case.meta.generation.mode.is_positive:
        return
    problem = answer.json()
    wrong = {one["code"] for one in problem.get("errors", ())}
    if problem["type"] == "urn:lading:invalid" and not wrong <= FACTS:
        raise Refused(operation=case.operation.label, message=problem["detail"], title="Refused as malformed")


def points_somewhere(case: Any, answer: Any) -> None:
    """The pointers of a refusal name places of the request."""
    asked = answer.request
    sent = asked.body.encode() if isinstance(asked.body, str) else asked.body or b""
    address = urlsplit(asked.url)
    query = parse_qs(address.query, True) | dict(
        case.query or {}
    )  # the address leaves out names without a value
    lost = lost_pointers(case.method, address.path, query, sent, answer.content)
    if lost:
        raise Refused(operation=case.operation.label, message="\n".join(lost), title="Points nowhere")


def _told(case: Any, answer: Any, failure: Any) -> str:
    return f"{failure}\n  {case.as_curl_command()[:1500]}\n  {answer.status_code} {answer.text[:600]}"


def _expect(*statuses: str) -> CheckConfig:
    return CheckConfig(expected_statuses=statuses)


def _resource(operation: Any) -> str:
    """`/api/v1/purchase-orders/{id}/send/` is of the resource `purchase-order`."""
    name = str(operation.path.split("/")[3])
    return re.sub("ie$", "y", re.sub("(?<=ch)es$|s$", "", name))


def application() -> Any:
    """The product as a server calls it, within this test's transaction."""
    handler = get_wsgi_application()

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        for signal in (request_started, request_finished):
            signal.disconnect(close_old_connections)
        try:
            return handler(environ, start_response)
        finally:
            for signal in (request_started, request_finished):
                signal.connect(close_old_connections)

    return app


def description() -> dict[str, Any]:
    return dict(json.loads(APIClient().get("/api/schema/?format=json").content))


def boundaries(world: World, operation: Any) -> list[Any]:
    """Every value at the edge of what the description allows, the sound ones at an object that is there."""
    real = world.path_of(operation)
    config = world.schema.config.generation_for(operation=operation)
    found = []
    for case in world.schema.iter_coverage_cases(
        operation, generation_modes=list(schemathesis.GenerationMode), generation_config=config
    ):
        if not case.meta.is_negative_at(ParameterLocation.PATH):
            case.path_parameters = {**(case.path_parameters or {}), **real}
        found.append(case)
    return found


def spread(cases: list[Any], most: int) -> list[Any]:
    """`most` of them, evenly over the list."""
    if len(cases) <= most:
        return cases
    return [cases[place * len(cases) // most] for place in range(most)]


def freely(world: World, operation: Any, most: int) -> None:
    """Half of them keep to the description, half break it."""
    real = {"path_parameters": path} if (path := world.path_of(operation)) else {}
    for mode in schemathesis.GenerationMode:

        @hypothesis.settings(
            max_examples=max(1, most // 2), deadline=None, database=None, derandomize=True,
            phases=[hypothesis.Phase.generate], suppress_health_check=list(hypothesis.HealthCheck),
        )  # fmt: skip
        @hypothesis.given(case=operation.as_strategy(mode, **real))
        def send(case: Any) -> None:
            world.ask(case)

        try:
            send()
        except hypothesis.errors.Unsatisfiable:
            continue  # a GET without parameters cannot be asked wrongly


def explore(chosen: Callable[[Any], bool]) -> World:
    """Ask every chosen operation, four of five times at a boundary; the world says what was found."""
    world = World()
    for operation in filter(chosen, world.operations):
        for case in spread(boundaries(world, operation), EACH * 4 // 5):
            world.ask(case)
        freely(world, operation, max(2, EACH - world.sent[operation.label]))
    return world
