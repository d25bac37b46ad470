"""How each foreign file format is read, and what it calls its tensors."""
