"""Generation of the videos of a request: its checks, windows, decoding and joins."""
