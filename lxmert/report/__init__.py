"""What a graph has produced, for people: a table of scores, curves and example panels as one page."""
