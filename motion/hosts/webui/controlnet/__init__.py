"""ControlNet's units on a clip: what they are shown in each frame, and how strongly they count there."""
