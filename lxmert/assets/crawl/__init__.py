"""Images whose publisher names only their addresses, fetched one by one and proved to be the right ones."""
