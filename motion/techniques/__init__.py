"""Published techniques, one file each: techniques know no host, and hosts know each by what it gives them."""
