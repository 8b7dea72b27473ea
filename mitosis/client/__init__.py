"""The SDK: typed calls and typed results, no printing."""
