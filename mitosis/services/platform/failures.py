"""What can stop the platform on one machine: one plain line with the cause and what to do next."""

from mitosis.errors import Misconfigured, Unavailable


class MissingExtra(Misconfigured):
    """A server program is not installed."""

    code = "misconfigured.missing_extra"


class FolderInUse(Misconfigured):
    """Another process works in the data folder."""

    code = "misconfigured.folder_in_use"


class FolderRefused(Misconfigured):
    """The data folder is not one that this version may use."""

    code = "misconfigured.folder_refused"


class PortTaken(Misconfigured):
    """Another program listens on a port that the user asked for."""

    code = "misconfigured.port_taken"


class ServerFailed(Unavailable):
    """A server or a child of the platform did not start, or served what it must refuse."""

    code = "unavailable.server_failed"
