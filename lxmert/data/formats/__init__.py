"""Region features in other projects' forms, read and written as streams, beside the region store."""
