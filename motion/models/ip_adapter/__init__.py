"""IP-Adapter: from an image encoder's output to keys and values beside those of the text."""
