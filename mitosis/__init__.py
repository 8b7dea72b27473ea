"""Mitosis: campaigns of commands over many machines, event-sourced on NATS JetStream."""

from mitosis._version import __version__

__all__ = ["__version__"]
