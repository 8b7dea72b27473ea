"""The error of a wrong command line, in a file of its own: completion imports it at every TAB."""


class UsageError(ValueError):
    """The command line itself is wrong; nothing was tried."""
