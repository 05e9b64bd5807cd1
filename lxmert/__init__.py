"""Region-feature vision-and-language models, from raw images to a file a leaderboard accepts."""

__version__ = "0.1.0"
