"""Graphs whose right answer is known: right ones and their sabotaged twins."""
