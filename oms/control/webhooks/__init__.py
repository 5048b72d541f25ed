"""News for other programs: signed, at least once, in order per object, with every try on record."""
