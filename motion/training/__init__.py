"""Training: one resumable loop, and one module per recipe."""
