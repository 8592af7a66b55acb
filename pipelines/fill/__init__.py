"""Filling in the codes of a request: its inputs, windows, settings, predictions, and how its parts are joined."""
