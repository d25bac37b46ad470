"""Published techniques, one file each: they know no host and no UNet, and hosts know none of them by name."""
