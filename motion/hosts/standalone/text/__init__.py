"""What a clip's prompts say, as vectors of the text encoders."""
