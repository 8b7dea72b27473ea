"""`shutdown`: who may, with which secret, and what ends."""

import asyncio
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from mitosis import SyncMitoClient
from mitosis.config.client import CreateUserArgs

from ..conftest import Platform


@pytest.mark.parity("S-139", "D-068", "V-049")
def test_an_administrator_ends_the_platform_and_nobody_else_or_with_a_wrong_secret(
    make_platform: Callable[..., Platform],
) -> None:
    platform = make_platform(workers=1)
    asyncio.run(platform.start())
    (secret_file,) = platform.data.rglob("shutdown_secret")
    secret = secret_file.read_text().strip()
    assert stat.S_IMODE(secret_file.stat().st_mode) == 0o600
    for log in platform.data.rglob("*.log"):
        assert secret.encode() not in log.read_bytes(), log
    with SyncMitoClient(platform.config()) as admin:
        admin.create_user(CreateUserArgs(username="alice", password="secret"))
    as_admin = ("-u", platform.notice["admin_user"], "-p", platform.admin_password)
    by_alice = platform.client("-u", "alice", "-p", "secret", "shutdown", secret)
    assert (by_alice.status, by_alice.out) == (4, b"")
    wrong = platform.client(*as_admin, "shutdown", secret[::-1])
    assert (wrong.status, wrong.out) == (4, b"")
    assert "secret" in wrong.complaint
    assert secret not in wrong.complaint
    assert not platform.supervisor.ended()
    done = platform.client(*as_admin, "shutdown", secret)
    assert (done.status, done.text, done.err) == (0, "The coordinator shuts down", "")
    assert platform.supervisor.wait() == 0, "the whole platform has ended"
    assert platform.home.processes() == []
    assert not Path(secret_file).exists()
