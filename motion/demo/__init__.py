"""The sprite world: a small universe of moving shapes in which the truth about a frame is known."""
