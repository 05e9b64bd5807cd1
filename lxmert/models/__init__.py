"""Encoders, the heads on top of them, and their weights on disk."""
