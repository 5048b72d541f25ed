"""Runs GraphQL documents against plain resolver functions, with Shopify's way of counting cost.

Parsing, validation and the coercion of variables and arguments are graphql-core's. The walk over the selection is our
own: a document is compiled once and kept, because the same few documents arrive thousands of times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import graphql
from graphql.execution.values import (
    VariableValues,
    get_argument_values,
    get_directive_values,
    get_variable_values,
)
from graphql.language import (
    DirectiveNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
)

SCHEMA = graphql.build_schema((Path(__file__).parent / "schema.graphql").read_text())

# resolver(object, arguments, context) -> value
Resolver = Callable[[Any, dict[str, Any], Any], Any]
RESOLVERS: dict[str, dict[str, Resolver]] = {}

MUTATION_COST = 10


class Typed(NamedTuple):
    """A value of an interface field together with its concrete type."""

    type_name: str
    value: Any


class Refusal(Exception):
    """A top-level error of a request, with the platform's code."""

    def __init__(self, message: str, code: str, path: list[str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.path = path


@dataclass(slots=True)
class Step:
    key: str
    name: str
    resolver: Resolver | None  # None: __typename
    arguments: dict[str, Any] | None  # None: they depend on variables
    node: FieldNode
    definition: Any
    sets: tuple[SelectionSetNode, ...]
    type_name: str
    conditions: tuple[DirectiveNode, ...]
    idempotent: DirectiveNode | None
    weight: int = 0  # points of one such object


def _uses_variables(node: Any) -> bool:
    if isinstance(node, VariableNode):
        return True
    for attribute in ("arguments", "value", "values", "fields"):
        inner = getattr(node, attribute, None)
        if isinstance(inner, (list, tuple)):
            if any(_uses_variables(one) for one in inner):
                return True
        elif isinstance(inner, graphql.Node) and _uses_variables(inner):
            return True
    return False


class Operation:
    """One operation of a validated document, compiled."""

    def __init__(self, node: OperationDefinitionNode, fragments: dict[str, FragmentDefinitionNode]) -> None:
        self.node = node
        self.fragments = fragments
        self.kind = node.operation.value
        self._steps: dict[tuple[str, tuple[int, ...]], list[Step]] = {}

    @cached_property
    def root(self) -> str:
        return "Mutation" if self.kind == "mutation" else "QueryRoot"

    @cached_property
    def name(self) -> str:
        """The root fields, which is what a person calls the operation."""
        return "+".join(step.name for step in self.steps(self.root, (self.node.selection_set,)))

    def steps(self, type_name: str, sets: tuple[SelectionSetNode, ...]) -> list[Step]:
        key = (type_name, tuple(map(id, sets)))
        found = self._steps.get(key)
        if found is None:
            merged: dict[str, Step] = {}
            for one in sets:
                self._collect(type_name, one, (), merged)
            found = self._steps[key] = list(merged.values())
        return found

    def concrete_types(self, sets: tuple[SelectionSetNode, ...]) -> set[str]:
        """The object types that fragments of a selection on an interface name."""
        found: set[str] = set()
        for one in sets:
            for node in one.selections:
                if isinstance(node, FragmentSpreadNode):
                    found.add(self.fragments[node.name.value].type_condition.name.value)
                elif isinstance(node, InlineFragmentNode) and node.type_condition:
                    found.add(node.type_condition.name.value)
        return {name for name in found if graphql.is_object_type(SCHEMA.type_map[name])}

    def _collect(
        self,
        type_name: str,
        selection: SelectionSetNode,
        outer: tuple[DirectiveNode, ...],
        merged: dict[str, Step],
    ) -> None:
        for node in selection.selections:
            conditions = outer + tuple(
                d for d in node.directives or () if d.name.value in ("skip", "include")
            )
            if isinstance(node, FieldNode):
                key = node.alias.value if node.alias else node.name.value
                if key in merged:
                    if node.selection_set:
                        merged[key].sets += (node.selection_set,)
                    continue
                merged[key] = self._step(type_name, key, node, conditions)
                continue
            condition: str | None
            if isinstance(node, FragmentSpreadNode):
                fragment = self.fragments[node.name.value]
                condition, inner = fragment.type_condition.name.value, fragment.selection_set
            else:
                assert isinstance(node, InlineFragmentNode)
                condition = node.type_condition.name.value if node.type_condition else None
                inner = node.selection_set
            if condition is None or condition == type_name or _is_a(type_name, condition):
                self._collect(type_name, inner, conditions, merged)

    def _step(self, type_name: str, key: str, node: FieldNode, conditions: tuple[DirectiveNode, ...]) -> Step:
        name = node.name.value
        if name == "__typename":
            return Step(key, name, None, {}, node, None, (), type_name, conditions, None)
        definition = SCHEMA.type_map[type_name].fields[name]  # type: ignore[attr-defined]
        named = graphql.get_named_type(definition.type)
        return Step(
            key=key,
            name=name,
            resolver=RESOLVERS[type_name][name],
            arguments=None if _uses_variables(node) else get_argument_values(definition, node),
            node=node,
            definition=definition,
            sets=(node.selection_set,) if node.selection_set else (),
            type_name=named.name,
            conditions=conditions,
            idempotent=next((d for d in node.directives or () if d.name.value == "idempotent"), None),
            weight=1 if named.name == "Node" or _is_a(named.name, "Node") else 0,
        )


@lru_cache(maxsize=4096)
def _is_a(type_name: str, interface: str) -> bool:
    kind = SCHEMA.type_map[type_name]
    return any(one.name == interface for one in getattr(kind, "interfaces", ()))


class Document:
    """A parsed and validated document."""

    def __init__(self, source: str) -> None:
        tree = graphql.parse(source, no_location=False)
        self.errors = graphql.validate(SCHEMA, tree)
        fragments = {d.name.value: d for d in tree.definitions if isinstance(d, FragmentDefinitionNode)}
        self.operations = [
            Operation(d, fragments) for d in tree.definitions if isinstance(d, OperationDefinitionNode)
        ]

    def operation(self, name: str | None) -> Operation:
        """Raises Refusal when the name is missing or unknown."""
        for operation in self.operations:
            if name is None and len(self.operations) == 1:
                return operation
            if name is not None and operation.node.name and operation.node.name.value == name:
                return operation
        raise Refusal(
            f"No operation named {name!r}" if name else "An operation name is required", "BAD_REQUEST"
        )


@lru_cache(maxsize=512)
def compiled(source: str) -> Document:
    """The document, parsed and validated once. Raises graphql.GraphQLSyntaxError."""
    return Document(source)


class Run:
    """One execution: variables, context, and what it cost."""

    def __init__(self, operation: Operation, variables: dict[str, Any], context: Any) -> None:
        self.operation = operation
        self.context = context
        self.actual = 0
        result = get_variable_values(SCHEMA, operation.node.variable_definitions or (), variables)
        self.variable_errors = result if isinstance(result, list) else []
        self.variables: VariableValues | None = None if isinstance(result, list) else result

    def arguments(self, step: Step) -> dict[str, Any]:
        if step.arguments is not None:
            return step.arguments
        return get_argument_values(step.definition, step.node, self.variables)

    def idempotency_key(self, step: Step) -> str | None:
        if step.idempotent is None:
            return None
        directive = SCHEMA.get_directive("idempotent")
        assert directive is not None
        return str((get_directive_values(directive, step.node, self.variables) or {})["key"])

    def wanted(self, step: Step) -> bool:
        for node in step.conditions:
            directive = SCHEMA.get_directive(node.name.value)
            assert directive is not None
            value = get_argument_values(directive, node, self.variables)["if"]
            if value is (node.name.value == "skip"):
                return False
        return True

    # --- cost ---------------------------------------------------------------------------------------
    def requested_cost(self) -> int:
        """Points before the run: a mutation 10, an object with an id 1, values nothing, a list by the size asked for.

        The platform publishes no exact sum for lists inside lists; here an inner list costs 2 and one node.
        """
        base = MUTATION_COST if self.operation.kind == "mutation" else 0
        return base + self._cost(self.operation.root, (self.operation.node.selection_set,), nested=False)

    def _cost(self, type_name: str, sets: tuple[SelectionSetNode, ...], *, nested: bool) -> int:
        if graphql.is_abstract_type(SCHEMA.type_map[type_name]):
            concrete = self.operation.concrete_types(sets)
            return max((self._cost(one, sets, nested=nested) for one in concrete), default=0)
        total = 0
        for step in self.operation.steps(type_name, sets):
            if not step.sets or not self.wanted(step):
                continue
            if step.type_name.endswith("Connection"):
                inner = self._cost(step.type_name, step.sets, nested=True)
                given = self.arguments(step)
                total += 2 + inner if nested else (given.get("first") or given.get("last") or 0) * inner
                continue
            each = step.weight + self._cost(step.type_name, step.sets, nested=nested or step.weight > 0)
            total += each * (
                len(self.arguments(step)["ids"]) if step.name == "nodes" and type_name == "QueryRoot" else 1
            )
        return total

    # --- walk ---------------------------------------------------------------------------------------
    def execute(self) -> dict[str, Any]:
        return self._object(self.operation.root, (self.operation.node.selection_set,), None)

    def _object(self, type_name: str, sets: tuple[SelectionSetNode, ...], value: Any) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        for step in self.operation.steps(type_name, sets):
            if step.conditions and not self.wanted(step):
                continue
            if step.resolver is None:
                answer[step.key] = type_name
                continue
            arguments = step.arguments if step.arguments is not None else self.arguments(step)
            if type_name == "Mutation":
                self.context.idempotency_key = self.idempotency_key(step)
            found = step.resolver(value, arguments, self.context)
            answer[step.key] = self._value(step, found) if step.sets else found
        return answer

    def _value(self, step: Step, found: Any) -> Any:
        if found is None:
            return None
        if isinstance(found, list):
            return [self._value(step, one) for one in found]
        self.actual += step.weight
        if isinstance(found, Typed):
            return self._object(found.type_name, step.sets, found.value)
        return self._object(step.type_name, step.sets, found)
