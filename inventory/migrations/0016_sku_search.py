"""One text per SKU that a search looks at: code, own title, product's title, a line each.

Three columns in two tables could only be searched apart, and a list of the best hits then had to gather and sort
thousands of rows. The database keeps the text itself, whoever writes the row. On PostgreSQL it is in upper case and has
a trigram index (search works without the extension, only slower); on SQLite LIKE knows no case.

A later migration that makes SQLite build inventory_sku or inventory_product anew must call `follow` again.
"""

from __future__ import annotations

from typing import Any

from django.db import migrations, models

_POSTGRES = """
CREATE OR REPLACE FUNCTION inventory_sku_search() RETURNS trigger AS $$
BEGIN
    NEW.search := E'\\n' || upper(NEW.code) || E'\\n' || upper(NEW.title) || E'\\n'
        || coalesce((SELECT upper(title) FROM inventory_product WHERE id = NEW.product_id), '');
    RETURN NEW;
END $$ LANGUAGE plpgsql;
CREATE OR REPLACE FUNCTION inventory_product_search() RETURNS trigger AS $$
BEGIN
    UPDATE inventory_sku SET search = '' WHERE product_id = NEW.id;
    RETURN NULL;
END $$ LANGUAGE plpgsql;
CREATE TRIGGER inventory_sku_search BEFORE INSERT OR UPDATE OF code, title, product_id, search ON inventory_sku
    FOR EACH ROW EXECUTE FUNCTION inventory_sku_search();
CREATE TRIGGER inventory_product_search AFTER UPDATE OF title ON inventory_product
    FOR EACH ROW WHEN (OLD.title IS DISTINCT FROM NEW.title) EXECUTE FUNCTION inventory_product_search();
UPDATE inventory_sku SET search = '';
"""
_SQLITE_TEXT = (
    "char(10) || code || char(10) || title || char(10) || "
    "coalesce((SELECT p.title FROM inventory_product p WHERE p.id = product_id), '')"
)
_SQLITE = (
    f"CREATE TRIGGER inventory_sku_search_new AFTER INSERT ON inventory_sku BEGIN "
    f"UPDATE inventory_sku SET search = {_SQLITE_TEXT} WHERE id = NEW.id; END",
    f"CREATE TRIGGER inventory_sku_search AFTER UPDATE OF code, title, product_id, search ON inventory_sku BEGIN "
    f"UPDATE inventory_sku SET search = {_SQLITE_TEXT} WHERE id = NEW.id; END",
    f"CREATE TRIGGER inventory_product_search AFTER UPDATE OF title ON inventory_product BEGIN "
    f"UPDATE inventory_sku SET search = {_SQLITE_TEXT} WHERE product_id = NEW.id; END",
    f"UPDATE inventory_sku SET search = {_SQLITE_TEXT}",
)
#: what the one index stands for from now on
REPLACED = {
    "sku_code_trgm_idx": ("inventory_sku", "code"),
    "sku_title_trgm_idx": ("inventory_sku", "title"),
}


def follow(apps: Any, editor: Any) -> None:
    if editor.connection.vendor == "postgresql":
        editor.execute(_POSTGRES, params=None)
    else:
        for statement in _SQLITE:
            editor.execute(statement)


def forget(apps: Any, editor: Any) -> None:
    if editor.connection.vendor == "postgresql":
        editor.execute("DROP TRIGGER IF EXISTS inventory_product_search ON inventory_product")
        editor.execute("DROP TRIGGER IF EXISTS inventory_sku_search ON inventory_sku")
        editor.execute("DROP FUNCTION IF EXISTS inventory_product_search(), inventory_sku_search()")
    else:
        for name in ("inventory_product_search", "inventory_sku_search", "inventory_sku_search_new"):
            editor.execute(f"DROP TRIGGER IF EXISTS {name}")


def _has_trigrams(editor: Any) -> bool:
    if editor.connection.vendor != "postgresql":
        return False
    with editor.connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm')")
        return bool(cursor.fetchone()[0])


def one_index(apps: Any, editor: Any) -> None:
    if _has_trigrams(editor):
        editor.execute("CREATE INDEX sku_search_trgm_idx ON inventory_sku USING gin (search gin_trgm_ops)")
        # how many rows have a text decides how they are looked for: a hundred samples say too little
        editor.execute("ALTER TABLE inventory_sku ALTER COLUMN search SET STATISTICS 1000")
        for name in REPLACED:
            editor.execute(f"DROP INDEX IF EXISTS {name}")


def two_indexes(apps: Any, editor: Any) -> None:
    if _has_trigrams(editor):
        editor.execute("DROP INDEX IF EXISTS sku_search_trgm_idx")
        for name, (table, column) in REPLACED.items():
            editor.execute(
                f"CREATE INDEX IF NOT EXISTS {name} ON {table} USING gin (UPPER({column}::text) gin_trgm_ops)"
            )


class Migration(migrations.Migration):
    dependencies = [("inventory", "0015_serial_events")]

    operations = [
        migrations.AddField(
            "sku",
            "search",
            models.TextField(
                default="",
                editable=False,
                help_text="code and titles, a line each, for `selectors.found_by`; triggers write it",
            ),
        ),
        migrations.RunPython(follow, forget),
        migrations.RunPython(one_index, two_indexes),
    ]
