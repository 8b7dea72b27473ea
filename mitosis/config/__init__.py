"""Settings: a struct per section of the file, and the loader that says where each came from."""
