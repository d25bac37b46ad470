"""How a UNet is made to move while it samples: scopes, windows, rows of a batch, LoRAs, noise."""
