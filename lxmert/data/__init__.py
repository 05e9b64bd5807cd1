"""Region stores, tables of examples, text and batches."""
