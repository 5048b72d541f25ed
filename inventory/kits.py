"""Virtual kits: what they are made of, resolved down to counted SKUs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.db import transaction

from inventory.models import KitComponent, Sku
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.errors import NotFound, UserError, about
from oms.core.outbox import emit_many

#: kit → component kit → counted SKU; deeper nesting is refused by `set_components`
MAX_DEPTH = 2

Parts = list[tuple[int, int]]  # (component SKU id, eaches per kit)


def flatten(kit_ids: Iterable[int]) -> dict[int, Parts]:
    """Counted components of virtual kits, nested kits resolved, equal components added up, sorted by SKU id.

    A kit without components gives an empty list: it cannot be sold. At most one query per level of nesting.
    """
    roots = sorted(set(kit_ids))
    contents: dict[int, list[tuple[int, int, bool]]] = {}
    todo = set(roots)
    while todo:
        for kit in todo:
            contents[kit] = []
        rows = KitComponent.objects.filter(kit_id__in=todo).values_list(
            "kit_id", "component_id", "quantity", "component__kind"
        )
        for kit, component, quantity, kind in rows:
            contents[kit].append((component, quantity, kind == Sku.Kind.KIT))
        todo = {component for kit in todo for component, _, is_kit in contents[kit] if is_kit} - set(contents)
    return {root: sorted(_counted(root, contents, ()).items()) for root in roots}


def _counted(
    kit: int, contents: Mapping[int, list[tuple[int, int, bool]]], path: tuple[int, ...]
) -> dict[int, int]:
    if kit in path:
        raise UserError(f"components: kit {kit} contains itself; mend its components.", field="components")
    total: dict[int, int] = {}
    for component, quantity, is_kit in contents[kit]:
        inner = _counted(component, contents, (*path, kit)) if is_kit else {component: 1}
        for sku_id, each in inner.items():
            total[sku_id] = total.get(sku_id, 0) + each * quantity
    return total


def set_components(kit_id: int, components: Mapping[int, int], *, actor: Actor) -> Sku:
    """Replace the contents of a virtual kit by `{component SKU id: eaches}`.

    A kit may hold kits, one level deep. Raises `UserError` naming the component that is unknown, a service,
    not a positive whole number, nested too deep, or leads back to the kit itself; `NotFound` for the kit.
    """
    with transaction.atomic():
        kit = Sku.objects.select_for_update(of=("self",)).filter(pk=kit_id).first()
        if kit is None:
            raise NotFound(f"kit: there is no SKU with id {kit_id}.", field="kit")
        if kit.kind not in (Sku.Kind.KIT, Sku.Kind.PREBUILT):
            raise UserError(
                f"kind: {kit} is a {kit.get_kind_display().lower()}; make it a kit first.", field="kind"
            )
        if not components:
            raise UserError("components: a kit needs at least one component.", field="components")
        known = Sku.objects.in_bulk(list(components))
        for sku_id, quantity in components.items():
            sku = known.get(sku_id)
            with about(sku_id):
                if sku is None:
                    raise UserError(f"components: there is no SKU with id {sku_id}.", field="components")
                if isinstance(quantity, bool) or not isinstance(quantity, int) or quantity < 1:
                    raise UserError(
                        f"components: {sku} needs a whole quantity of at least 1.", field="components"
                    )
                if sku.kind == Sku.Kind.SERVICE:
                    raise UserError(
                        f"components: {sku} is a service and cannot be part of a kit.", field="components"
                    )
                if sku_id == kit_id:
                    raise UserError(f"components: {kit} cannot contain itself.", field="components")
        before = dict(KitComponent.objects.filter(kit=kit).values_list("component__code", "quantity"))
        KitComponent.objects.filter(kit=kit).delete()
        KitComponent.objects.bulk_create(
            [
                KitComponent(kit=kit, component_id=sku_id, quantity=quantity)
                for sku_id, quantity in sorted(components.items())
            ]
        )
        _check_nesting(kit)
        after = {str(known[sku_id]): quantity for sku_id, quantity in components.items()}
        record(actor, "kit.components", kit, before=before, after=after)
        emit_many([("stock.changed", str(sku_id), {}) for sku_id in sorted({kit.pk, *above(kit.pk)})])
    return kit


def above(sku_id: int) -> set[int]:
    """Ids of virtual kits that contain the SKU, directly or through another kit."""
    found: set[int] = set()
    todo = {sku_id}
    while todo:
        rows = KitComponent.objects.filter(component_id__in=todo, kit__kind=Sku.Kind.KIT)
        todo = set(rows.values_list("kit_id", flat=True)) - found
        found |= todo
    return found


def _check_nesting(kit: Sku) -> None:
    if kit.pk in above(kit.pk):
        raise UserError(f"components: {kit} would contain itself through another kit.", field="components")
    tops = {kit.pk, *above(kit.pk)}
    if max((depth(top) for top in tops), default=0) > MAX_DEPTH:
        raise UserError(
            "components: a kit may hold kits, but those may not hold further kits.", field="components"
        )


def depth(kit_id: int) -> int:
    depth, layer = 0, {kit_id}
    while layer:
        depth += 1
        rows = KitComponent.objects.filter(kit_id__in=layer, component__kind=Sku.Kind.KIT)
        layer = set(rows.values_list("component_id", flat=True))
    return depth
