"""Events become rows: pure projections, the runner that stores them with its position, and the queries."""
