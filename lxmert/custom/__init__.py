"""Your own data: one folder of images and one file of JSON lines, turned into what the graph reads."""
