"""One request to `generate`: checks, windows, decoding and joins."""
