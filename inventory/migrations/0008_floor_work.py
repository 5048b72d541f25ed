"""Work on stock: bins of their own record, lots, serials, count tasks, reasons and limits of adjustments."""

import django.db.models.deletion
import django.db.models.expressions
import django.db.models.functions.comparison
import django.db.models.functions.text
import django.utils.timezone
import oms.core.fields
from django.conf import settings
from django.db import migrations, models
from oms.core.triggers import append_only
from typing import Any


def drop_old_index(apps: Any, editor: Any) -> None:
    """The hand-made SQLite index of 0002; the constraint below takes its place on both databases."""
    if editor.connection.vendor == "sqlite":
        editor.execute("DROP INDEX IF EXISTS bin_stock_once_expr")


def old_index(apps: Any, editor: Any) -> None:
    if editor.connection.vendor == "sqlite":
        editor.execute(
            "CREATE UNIQUE INDEX bin_stock_once_expr ON inventory_binstock (bin_id, sku_id, coalesce(lot_id, 0))"
        )


class Migration(migrations.Migration):

    dependencies = [
        ('inventory', '0007_valuation'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RunPython(drop_old_index, old_index),
        migrations.CreateModel(
            name='AdjustmentLimit',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('role', models.CharField(max_length=20, unique=True)),
                ('amount', oms.core.fields.MoneyAmountField(decimal_places=4, max_digits=14)),
            ],
            options={
                'ordering': ['role'],
            },
        ),
        migrations.CreateModel(
            name='AdjustmentReason',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('code', models.CharField(max_length=60, unique=True)),
                ('label', models.CharField(max_length=80)),
                ('direction', models.CharField(choices=[('both', 'More or fewer'), ('in', 'More only'), ('out', 'Fewer only')], default='both', max_length=4)),
                ('needs_note', models.BooleanField(default=False, help_text='the note says what proves it')),
                ('is_active', models.BooleanField(default=True)),
                ('position', models.PositiveSmallIntegerField(default=100)),
            ],
            options={
                'ordering': ['position', 'label'],
            },
        ),
        migrations.CreateModel(
            name='BinMovement',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('quantity', models.IntegerField(help_text='signed change, in eaches')),
                ('reason', models.CharField(blank=True, max_length=60)),
                ('actor', models.CharField(max_length=120)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
            options={
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='CountTask',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('cause', models.CharField(choices=[('rule', 'Due by its class'), ('zero', 'Is it really empty?'), ('short_pick', 'A picker missed some'), ('manual', 'Asked for')], default='manual', max_length=10)),
                ('state', models.CharField(choices=[('open', 'To count'), ('counted', 'Difference to review'), ('waiting', 'Waits for approval'), ('done', 'Done'), ('cancelled', 'Cancelled')], default='open', max_length=10)),
                ('is_blind', models.BooleanField(default=True, help_text='the counter never learns what the books say')),
                ('due_on', models.DateField()),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('created_by', models.CharField(max_length=120)),
                ('note', models.CharField(blank=True, max_length=255)),
                ('expected', models.IntegerField(blank=True, help_text='the books at the moment of counting', null=True)),
                ('counted', models.PositiveIntegerField(blank=True, null=True)),
                ('counted_at', models.DateTimeField(blank=True, null=True)),
                ('closed_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'ordering': ['due_on', 'id'],
            },
        ),
        migrations.CreateModel(
            name='SerialUnit',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('serial', models.CharField(max_length=60)),
                ('state', models.CharField(choices=[('in_stock', 'In stock'), ('shipped', 'Shipped'), ('returned', 'Came back'), ('gone', 'Written off')], default='in_stock', max_length=10)),
                ('source', models.CharField(blank=True, help_text='receipt that brought it in', max_length=80)),
                ('reference', models.CharField(blank=True, help_text='shipment or return that moved it last', max_length=80)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('updated_at', models.DateTimeField(auto_now=True)),
            ],
        ),
        migrations.RemoveConstraint(
            model_name='binstock',
            name='bin_stock_once',
        ),
        migrations.RemoveConstraint(
            model_name='ringfence',
            name='ring_fence_used_within',
        ),
        migrations.RemoveConstraint(
            model_name='transferline',
            name='transfer_received_within_shipped',
        ),
        migrations.RemoveField(
            model_name='ringfence',
            name='used',
        ),
        migrations.AddField(
            model_name='adjustmentrequest',
            name='bin',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='inventory.bin'),
        ),
        migrations.AddField(
            model_name='adjustmentrequest',
            name='key',
            field=models.CharField(blank=True, default='', help_text='the same key asks once', max_length=120),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name='adjustmentrequest',
            name='kind',
            field=models.CharField(choices=[('opening', 'Opening balance'), ('receipt', 'Purchase receipt'), ('reserve', 'Reserved'), ('release', 'Reservation released'), ('ship', 'Shipped'), ('return', 'Customer return received'), ('disposition', 'Return disposition'), ('adjust', 'Adjustment'), ('count', 'Count'), ('transfer_out', 'Transfer out'), ('transfer_in', 'Transfer in'), ('state', 'Change of state'), ('snapshot', "Operator's snapshot"), ('found', 'Found stock'), ('write_off', 'Write-off'), ('correction', 'Correction'), ('build', 'Kit built or broken'), ('merge', 'SKU merge')], default='adjust', max_length=12),
        ),
        migrations.AddField(
            model_name='adjustmentrequest',
            name='lot',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='inventory.lot'),
        ),
        migrations.AddField(
            model_name='adjustmentrequest',
            name='unit_cost',
            field=oms.core.fields.MoneyAmountField(blank=True, decimal_places=4, max_digits=14, null=True),
        ),
        migrations.AddField(
            model_name='binstock',
            name='warehouse',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='bin_stock', to='inventory.warehouse'),
        ),
        migrations.AddField(
            model_name='lot',
            name='is_blocked',
            field=models.BooleanField(default=False, help_text='recalled or suspect: nothing of it is sold'),
        ),
        migrations.AddField(
            model_name='lot',
            name='note',
            field=models.CharField(blank=True, max_length=255),
        ),
        migrations.AddField(
            model_name='reservation',
            name='channel_code',
            field=models.CharField(blank=True, help_text="its sales use up that channel's fences", max_length=40),
        ),
        migrations.AddField(
            model_name='reservation',
            name='min_shelf_days',
            field=models.PositiveSmallIntegerField(default=0, help_text='days of life a unit must have left to serve it'),
        ),
        migrations.AddField(
            model_name='sku',
            name='abc_class',
            field=models.CharField(default='C', help_text='A, B or C by value sold; decides how often it is counted', max_length=1),
        ),
        migrations.AddField(
            model_name='sku',
            name='expiry_tracked',
            field=models.BooleanField(default=False, help_text='every lot needs an expiry date'),
        ),
        migrations.AddField(
            model_name='stocklevel',
            name='counted_at',
            field=models.DateTimeField(blank=True, help_text='time of the newest whole count', null=True),
        ),
        migrations.AddField(
            model_name='transferline',
            name='returned',
            field=models.PositiveIntegerField(default=0, help_text='found at the source again'),
        ),
        migrations.AddField(
            model_name='warehouse',
            name='expiry_told_on',
            field=models.DateField(blank=True, editable=False, help_text='local day up to which expiries were told to listings', null=True),
        ),
        migrations.AlterField(
            model_name='binstock',
            name='bin',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='stock', to='inventory.bin'),
        ),
        migrations.AlterField(
            model_name='sku',
            name='lot_tracked',
            field=models.BooleanField(default=False, help_text='every receipt names its lot'),
        ),
        migrations.AlterField(
            model_name='sku',
            name='serial_tracked',
            field=models.BooleanField(default=False, help_text='every unit has a serial number of its own'),
        ),
        migrations.AddIndex(
            model_name='reservation',
            index=models.Index(condition=models.Q(('channel_code', ''), _negated=True), fields=['sku', 'channel_code', 'created_at'], name='reservation_fence_idx'),
        ),
        migrations.AddConstraint(
            model_name='binstock',
            constraint=models.UniqueConstraint(models.F('sku'), models.F('warehouse'), django.db.models.functions.comparison.Coalesce('bin', 0), django.db.models.functions.comparison.Coalesce('lot', 0), name='bin_stock_place_once'),
        ),
        migrations.AddConstraint(
            model_name='ringfence',
            constraint=models.CheckConstraint(condition=models.Q(('quantity__gt', 0)), name='ring_fence_quantity_positive'),
        ),
        migrations.AddConstraint(
            model_name='transferline',
            constraint=models.CheckConstraint(condition=models.Q(('shipped__gte', django.db.models.expressions.CombinedExpression(django.db.models.expressions.CombinedExpression(models.F('received'), '+', models.F('lost')), '+', models.F('returned')))), name='transfer_accounted_within_shipped'),
        ),
        migrations.AddConstraint(
            model_name='adjustmentlimit',
            constraint=models.CheckConstraint(condition=models.Q(('amount__gte', 0)), name='adjustment_limit_not_negative'),
        ),
        migrations.AddField(
            model_name='binmovement',
            name='bin',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='movements', to='inventory.bin'),
        ),
        migrations.AddField(
            model_name='binmovement',
            name='lot',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='places', to='inventory.lot'),
        ),
        migrations.AddField(
            model_name='binmovement',
            name='movement',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='places', to='inventory.stockmovement'),
        ),
        migrations.AddField(
            model_name='binmovement',
            name='sku',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='inventory.sku'),
        ),
        migrations.AddField(
            model_name='binmovement',
            name='warehouse',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='inventory.warehouse'),
        ),
        migrations.AddField(
            model_name='counttask',
            name='bin',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='counts', to='inventory.bin'),
        ),
        migrations.AddField(
            model_name='counttask',
            name='counted_by',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='counttask',
            name='request',
            field=models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='count', to='inventory.adjustmentrequest'),
        ),
        migrations.AddField(
            model_name='counttask',
            name='sku',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='counts', to='inventory.sku'),
        ),
        migrations.AddField(
            model_name='counttask',
            name='warehouse',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='counts', to='inventory.warehouse'),
        ),
        migrations.AddField(
            model_name='serialunit',
            name='lot',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='serials', to='inventory.lot'),
        ),
        migrations.AddField(
            model_name='serialunit',
            name='sku',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='serials', to='inventory.sku'),
        ),
        migrations.AddField(
            model_name='serialunit',
            name='warehouse',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='inventory.warehouse'),
        ),
        migrations.AddIndex(
            model_name='binmovement',
            index=models.Index(fields=['sku', 'warehouse', 'id'], name='bin_movement_level_idx'),
        ),
        migrations.AddIndex(
            model_name='binmovement',
            index=models.Index(condition=models.Q(('bin__isnull', False)), fields=['bin', '-id'], name='bin_movement_bin_idx'),
        ),
        migrations.AddIndex(
            model_name='binmovement',
            index=models.Index(condition=models.Q(('lot__isnull', False)), fields=['lot', 'id'], name='bin_movement_lot_idx'),
        ),
        migrations.AddConstraint(
            model_name='binmovement',
            constraint=models.CheckConstraint(condition=models.Q(('quantity', 0), _negated=True), name='bin_movement_not_zero'),
        ),
        migrations.AddIndex(
            model_name='counttask',
            index=models.Index(fields=['warehouse', 'state', 'due_on'], name='count_queue_idx'),
        ),
        migrations.AddConstraint(
            model_name='counttask',
            constraint=models.UniqueConstraint(models.F('sku'), models.F('warehouse'), django.db.models.functions.comparison.Coalesce('bin', 0), condition=models.Q(('state', 'open')), name='count_open_once'),
        ),
        migrations.AddConstraint(
            model_name='counttask',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['open', 'cancelled']), models.Q(('counted__isnull', False), ('counted_at__isnull', False), ('expected__isnull', False)), _connector='OR'), name='count_has_figures'),
        ),
        migrations.AddIndex(
            model_name='serialunit',
            index=models.Index(fields=['reference'], name='serial_reference_idx'),
        ),
        migrations.AddConstraint(
            model_name='serialunit',
            constraint=models.UniqueConstraint(models.F('sku'), django.db.models.functions.text.Upper('serial'), name='serial_once_per_sku'),
        ),
        migrations.AddConstraint(
            model_name='serialunit',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'in_stock'), _negated=True), ('warehouse__isnull', False), _connector='OR'), name='serial_in_stock_somewhere'),
        ),
        migrations.AddConstraint(
            model_name='adjustmentrequest',
            constraint=models.UniqueConstraint(
                fields=['key'], condition=~models.Q(key=''), name='adjustment_asked_once'
            ),
        ),
        append_only('inventory_binmovement'),
    ]
