"""How results look: one JSON value, plain text, or tables on a terminal."""
