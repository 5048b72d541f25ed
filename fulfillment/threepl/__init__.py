"""Warehouses that others run: orders out, acknowledgements, shipments, figures and adjustments in.

By signed API or by CSV files; both end in the same messages and the same booking.
"""
