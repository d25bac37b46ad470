"""Which WebUI this is, and where each kind has its UNet, VAE, noise levels, predictions and ControlNets."""
