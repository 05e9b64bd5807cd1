"""Published detector weights: read without their frameworks, and written for them again."""
