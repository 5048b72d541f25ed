"""Draw the data model: one Mermaid diagram per app, from the real models, into docs/data-model.md.

python scripts/draw_models.py            write the file
python scripts/draw_models.py --check    exit 1 when the file is not what the models say
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "data-model.md"
APPS = ("core", "inventory", "procurement", "orders", "fulfillment", "returns", "channels", "control")
HEAD = """# Data model

Drawn from the models by `make docs`; `make check` fails when it is out of date. Arrows point from the row that holds
the key to the row it names. A box without columns belongs to the app named in its own section.
"""


def draw() -> str:
    from django.apps import apps

    parts = [HEAD]
    for label in APPS:
        config = apps.get_app_config(label)
        models = [m for m in config.get_models() if not m._meta.auto_created]
        parts.append(f"## {config.verbose_name} (`{config.name}`)\n")
        lines = ["```mermaid", "erDiagram"]
        for model in models:
            lines.append(f"  {model.__name__} {{")
            for field in model._meta.local_fields:
                key = (
                    " PK"
                    if field.primary_key
                    else " FK"
                    if field.is_relation
                    else " UK"
                    if field.unique
                    else ""
                )
                kind = "ref" if field.is_relation else field.get_internal_type().removesuffix("Field").lower()
                lines.append(f"    {kind} {field.column}{key}")
            lines.append("  }")
        for model in models:
            for field in model._meta.local_fields:
                if field.is_relation and field.related_model:
                    many = "|o" if field.one_to_one else "}o"
                    one = "o|" if field.null else "||"
                    lines.append(
                        f"  {model.__name__} {many}--{one} {field.related_model.__name__} : {field.name}"
                    )
            for field in model._meta.local_many_to_many:
                lines.append(f"  {model.__name__} }}o--o{{ {field.related_model.__name__} : {field.name}")
        lines.append("```\n")
        parts.append("\n".join(lines))
        for model in models:
            doc = (model.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
            if doc and not doc.startswith(f"{model.__name__}("):
                parts.append(f"- **{model.__name__}**: {' '.join(doc.split())}")
        parts.append("")
    return "\n".join(parts)


def main() -> int:
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "oms.settings")
    import django

    django.setup()
    text = draw()
    if "--check" in sys.argv:
        if not TARGET.exists() or TARGET.read_text() != text:
            print(
                "docs/data-model.md is not what the models say: run `make docs` and commit it.",
                file=sys.stderr,
            )
            return 1
        return 0
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
