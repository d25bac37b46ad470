"""Image models as they lie on disk: single files and diffusers folders, and which of them are refused."""
