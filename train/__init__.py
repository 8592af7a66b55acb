"""Training: both stages, their data and metrics, and the demo."""
