"""Optimisers, schedules and the loops that train, resume and stop."""
