"""Which photographs each split holds, and which of them training has seen."""
