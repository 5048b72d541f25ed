"""Parcels that cross a customs border: whether one does, what is declared, on which terms, and the papers."""
