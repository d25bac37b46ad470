"""What a clip is: its settings, their text, prompts and key frames over its frames."""
