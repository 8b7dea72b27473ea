"""What `mito up` says when the platform serves."""

from mitosis.cli.output.screen import note
from mitosis.services.platform import ReadyNotice


def announce(notice: ReadyNotice) -> None:
    """Say how to log in, as lines that can be copied into a second terminal."""
    client = f"mito client -c {notice.http}"
    password = f'MITO_PASSWORD="$(cat {notice.admin_password_file})"'
    for line in (
        f"The platform serves. Its data is in {notice.data}; Ctrl-C stops everything.",
        "In a second terminal, log in once, then work:",
        f"  {password} {client} -u {notice.admin_user} auth",
        f"  {client} submit --terminal -- echo hello",
        f"  {client} get tasks",
    ):
        note(line)
