"""The cache of decoded frames, and what it has in common with the cache of codes."""
