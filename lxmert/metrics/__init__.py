"""Scorers: pure functions of predictions and references, NumPy and standard library only."""
