"""Events become rows: pure projections, the runner that stores them, and the queries."""
