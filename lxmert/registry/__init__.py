"""The results registry: what each run should reach, what ours reached, and whether that agrees."""
