"""Rows on logging in: options, prompts, and the file of stored sessions."""

import secrets
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pexpect
import pytest

from mitosis import SyncMitoClient
from mitosis.config.client import CreateUserArgs
from mitosis.services.auth.key_files import load_keys

from ..conftest import MITO, Done, Platform, side_by_side


class Account(NamedTuple):
    """Somebody who may log in, and a home of their own."""

    name: str
    password: str
    home: Path
    platform: Platform

    @property
    def credentials(self) -> Path:
        """Where the default file lies."""
        return self.home / ".config" / "mitosis" / "credentials"

    def mito(self, *arguments: str | Path, **more: str) -> Done:
        """Run `mito client` in this home."""
        return self.platform.client(*arguments, more={"HOME": str(self.home), **more})

    def terminal(self, *arguments: str) -> "pexpect.spawn[str]":
        """Run `mito client` in this home at a terminal."""
        environment = {**self.platform.home.environment, "HOME": str(self.home), "TERM": "dumb"}
        return pexpect.spawn(
            MITO[0], [*MITO[1:], "client", "-c", self.platform.notice["http"], *arguments],
            env=environment, encoding="utf-8", timeout=60, cwd=str(self.home),
        )  # fmt: skip

    def store_an_expired_session(self) -> None:
        """Put a session of the platform into the file that was over a minute ago."""
        folder = next(self.platform.data.rglob("private.pem")).parent
        public = next(folder.glob("public*.pem"))
        keys = load_keys(folder / "private.pem", public)
        now = time.time()
        token = keys.issue("user", self.name, sid="s", issued_at=now - 120, exp=now - 60)
        self.credentials.parent.mkdir(parents=True, exist_ok=True)
        self.credentials.write_text(f"# {self.platform.notice['http']}\n{self.name}:{token}\n")


def sessions_in(path: Path) -> dict[str, str]:
    """Token by user, of a file that must be whole."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    found = dict(line.split(":") for line in lines)
    assert len(found) == len(lines), lines
    assert all(token.count(".") == 2 for token in found.values()), lines
    return found


@pytest.fixture
def account(platform: Platform, admin: SyncMitoClient, tmp_path: Path) -> Account:
    name, password = f"holder-{secrets.token_hex(4)}", str(secrets.randbelow(10**12)).zfill(12)
    admin.create_user(CreateUserArgs(username=name, password=password))
    return Account(name, password, tmp_path, platform)


# --- options ----------------------------------------------------------------------------------


@pytest.mark.parity("S-119")
def test_the_session_is_kept_where_credential_path_says(account: Account) -> None:
    path = account.home / "a b" / "my session"
    done = account.mito("--credential-path", path, "auth", account.name, account.password)
    assert done.status == 0, done.err
    assert list(sessions_in(path)) == [account.name]
    assert not account.credentials.exists()
    assert account.mito("--credential-path", path, "auth").text == f"Logged in as {account.name}"
    assert account.mito("auth").status == 4


@pytest.mark.parity("S-120")
def test_user_names_who_acts(account: Account, alice: tuple[str, str], platform: Platform) -> None:
    for name, password in ((account.name, account.password), alice):
        assert account.mito("auth", name, password).status == 0
    own, other = side_by_side(
        lambda command: account.mito(*command),
        [["-u", account.name, "get", "groups"], [f"--user={alice[0]}", "get", "groups"]],
    )
    assert (own.text, other.text) == (f"{account.name} = Admin", f"{alice[0]} = Admin")


@pytest.mark.parity("S-121")
def test_user_and_password_are_all_that_a_command_needs(account: Account) -> None:
    done = account.mito("-u", account.name, "-p", account.password, "get", "groups")
    assert (done.status, done.text) == (0, f"{account.name} = Admin"), done.err


@pytest.mark.parity("S-127")
def test_a_wrong_password_is_refused(account: Account) -> None:
    for command in (["-u", account.name, "-p", "wrong", "get", "groups"],
                    ["auth", account.name, "wrong"]):  # fmt: skip
        done = account.mito(*command)
        assert (done.status, done.out) == (4, b"")
        assert "wrong user name or password" in done.complaint
    assert not account.credentials.exists()
    child = account.terminal("get", "groups")
    child.expect("Username: ")
    child.sendline(account.name)
    child.expect("Password of .*: ")
    child.sendline("wrong")
    child.expect("wrong user name or password")
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 4
    assert not account.credentials.exists()


@pytest.mark.parity("D-098")
def test_a_password_of_digits_alone_is_a_password(account: Account) -> None:
    assert account.password.isdigit()
    done = account.mito("get", "groups", MITO_USER=account.name, MITO_PASSWORD=account.password)
    assert (done.status, done.text) == (0, f"{account.name} = Admin"), done.err


@pytest.mark.parity("D-067")
def test_no_password_need_stand_where_others_can_read_it(account: Account) -> None:
    """Three ways past the list of processes; each beats what the environment says."""
    file = account.home / "password"
    file.write_text(f"{account.password}\nnot the password\n")
    file.chmod(0o600)
    stale = {"HOME": str(account.home), "MITO_USER": account.name, "MITO_PASSWORD": "stale"}
    by_option = account.mito("--password-file", file, "auth", **stale)
    assert by_option.text == f"Logged in as {account.name}", by_option.err
    account.credentials.unlink()
    by_stdin = account.platform.client(
        "--password-file", "-", "auth", account.name, more=stale,
        stdin=f"{account.password}\r\nrest".encode(),
    )  # fmt: skip
    assert by_stdin.text == f"Logged in as {account.name}", by_stdin.err
    account.credentials.unlink()
    more = {"MITO_USER": account.name, "MITO_PASSWORD_FILE": str(file)}
    assert account.mito("auth", **more).text == f"Logged in as {account.name}"
    file.write_text("")
    account.credentials.unlink()
    empty = account.mito("auth", **more)
    assert (empty.status, str(file) in empty.complaint) == (1, True)


# --- prompts ----------------------------------------------------------------------------------


@pytest.mark.parity("S-124")
def test_who_has_never_logged_in_is_asked_for_name_and_password(account: Account) -> None:
    child = account.terminal("get", "groups")
    child.expect("Username: ")
    child.sendline(account.name)
    child.expect(f"Password of {account.name}: ")
    child.sendline(account.password)
    child.expect(f"{account.name}.*Admin")
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 0
    assert account.password not in str(child.before)  # not echoed


@pytest.mark.parity("S-125", "D-066")
def test_a_log_in_is_enough_for_later_runs_and_its_file_is_private(account: Account) -> None:
    assert account.mito("auth", account.name, account.password).status == 0
    assert stat.S_IMODE(account.credentials.stat().st_mode) == 0o600
    again = account.mito("get", "groups")
    assert (again.status, again.text) == (0, f"{account.name} = Admin")
    account.credentials.chmod(0o644)  # as the original left it
    assert account.mito("auth", account.name, account.password).status == 0
    assert stat.S_IMODE(account.credentials.stat().st_mode) == 0o600
    assert account.password not in account.credentials.read_text()


@pytest.mark.parity("S-126")
def test_who_has_an_expired_session_is_asked_again(account: Account) -> None:
    account.store_an_expired_session()
    alone = account.mito("get", "groups")  # nobody is there to be asked
    assert (alone.status, alone.out) == (4, b"")
    assert "log in again" in alone.complaint
    child = account.terminal("get", "groups")
    child.expect(rf"Username \[{account.name}\]: ")
    child.sendline("")
    child.expect(f"Password of {account.name}: ")
    child.sendline(account.password)
    child.expect(f"{account.name}.*Admin")
    child.expect(pexpect.EOF)
    assert account.mito("get", "groups").status == 0  # the new session was kept


# --- the file ---------------------------------------------------------------------------------


@pytest.mark.parity("V-036")
def test_the_file_has_a_user_and_a_token_per_line_and_its_first_line_is_the_usual_user(
    account: Account, alice: tuple[str, str]
) -> None:
    for name, password in (alice, (account.name, account.password)):
        assert account.mito("auth", name, password).status == 0
    assert list(sessions_in(account.credentials)) == [account.name, alice[0]]  # the last one first
    # The file of the original: nothing but such lines, the first one for who names no user.
    tokens = sessions_in(account.credentials)
    account.credentials.write_text("".join(f"{n}:{tokens[n]}\n" for n in (alice[0], account.name)))
    by_line, by_name = side_by_side(
        lambda command: account.mito(*command), [["auth"], ["-u", account.name, "auth"]]
    )
    assert (by_line.text, by_name.text) == (
        f"Logged in as {alice[0]}", f"Logged in as {account.name}",
    )  # fmt: skip


@pytest.fixture
def crowd(
    platform: Platform, admin: SyncMitoClient, scaled: Callable[[int, int], int]
) -> list[str]:
    """Names of many users, all with the password `p`."""
    stem = f"crowd-{secrets.token_hex(3)}"
    names = [f"{stem}-{number}" for number in range(scaled(12, 200))]
    for name in names:
        admin.create_user(CreateUserArgs(username=name, password="p"))
    return names


@pytest.mark.parity("R-26")
@pytest.mark.timeout(600)
def test_many_clients_share_one_file(
    account: Account, crowd: list[str], scaled: Callable[[int, int], int]
) -> None:
    """All at once, some killed: no session is lost, no line is half, nobody waits as a guesser."""

    def command(name: str) -> list[str]:
        options = ["-c", account.platform.notice["http"], "-u", name, "-p", "p"]
        return [*MITO, "client", *options, "get", "groups"]

    environment = {**account.platform.home.environment, "HOME": str(account.home)}
    waiting, running = list(crowd), []
    while waiting or running:
        while waiting and len(running) < 50:
            running.append((waiting[-1], subprocess.Popen(
                command(waiting.pop()), env=environment, cwd=account.home,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )))  # fmt: skip
        name, process = running.pop(0)
        out, err = process.communicate(timeout=300)
        assert (process.returncode, out.decode()) == (0, f"{name} = Admin\n"), err
    assert set(sessions_in(account.credentials)) == set(crowd)
    assert stat.S_IMODE(account.credentials.stat().st_mode) == 0o600

    victims = [
        subprocess.Popen(
            command(name), env=environment, cwd=account.home, stdout=subprocess.DEVNULL
        )
        for name in crowd[:6]
    ]
    for process in victims:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert set(sessions_in(account.credentials)) == set(crowd)
    account.store_an_expired_session()
    more = {"MITO_USER": account.name, "MITO_PASSWORD": account.password}
    for done in side_by_side(
        lambda words: account.mito(*words, **more), [["get", "groups"]] * scaled(6, 50)
    ):
        assert (done.status, done.text) == (0, f"{account.name} = Admin"), done.err


@pytest.mark.parity("R-26")
@pytest.mark.parametrize("damage", [b"cut", b"\xff\xfe\x00\x01", b"torn"])
def test_a_damaged_file_is_said_and_a_new_log_in_mends_it(account: Account, damage: bytes) -> None:
    assert account.mito("auth", account.name, account.password).status == 0
    whole = account.credentials.read_bytes()
    account.credentials.write_bytes(
        {b"cut": whole[:-40], b"torn": whole[:-300] + b"\x00" * 200}.get(damage, damage)
    )
    done = account.mito("get", "groups")
    assert (done.status, done.out) == (4, b"")
    assert "log in again" in done.err
    assert account.mito("auth", account.name, account.password).status == 0
    assert list(sessions_in(account.credentials)) == [account.name]
    again = account.mito("get", "groups")
    assert (again.status, again.err) == (0, "")


@pytest.mark.parity("R-26")
def test_a_folder_that_cannot_be_written_costs_a_warning(account: Account) -> None:
    """/proc is a folder in which nobody can make a file, not even root."""
    path = "/proc/mitosis/credentials"
    options = ["--credential-path", path, "-u", account.name, "-p", account.password]
    done = account.mito(*options, "get", "groups")
    assert (done.status, done.text) == (0, f"{account.name} = Admin"), done.err
    assert path in done.complaint
    refused = account.mito("--credential-path", path, "auth", account.name, account.password)
    assert (refused.status, refused.out) == (1, b"")  # to keep the session was all that was asked
    assert path in refused.complaint
