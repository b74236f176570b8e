"""What is shown of a run: lines, bars, tables, pictures."""
