"""Files users already have: detect, check every row, show what would change, apply through the same services."""
