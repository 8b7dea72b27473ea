"""One struct per service with its defaults, and the loader that knows the source of each value."""
