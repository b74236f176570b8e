"""Shows a run: lines, bars, tables, pictures."""
