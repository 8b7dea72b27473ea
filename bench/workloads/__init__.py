"""What the platform is given to do; each file is one section of `just bench`."""
