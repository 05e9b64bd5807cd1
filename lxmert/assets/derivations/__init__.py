"""Small files made of fetched ones: one module each, named by `by` in the catalogue, with a `derive`."""
