"""The SDK: typed calls and results over NATS, without any printing."""
