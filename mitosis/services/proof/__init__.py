"""Whether history is what was stored: a walk over a stream or an export, and its findings."""
