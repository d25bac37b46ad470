"""The nets, and where they go in a UNet."""
