"""Attachments and artifacts as a person moves them: sections L, M and N of docs/parity.md."""

import contextlib
import hashlib
import http.client
import io
import re
import secrets
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from mitosis import ClientConfig, SyncMitoClient
from mitosis.config.client import CreateUserArgs, GetAttachmentsArgs
from mitosis.domain.roles import Role
from mitosis.domain.task import ArtifactKind, Outcome
from mitosis.errors import LimitReached, NotAllowed, NotFound

from ..conftest import Done, Platform, ended, in_shell, side_by_side

ODD_KEYS = ("run 1+2.pcap", "a#b?c&d=e", "(x)", "100%", "k:v")
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


class Keeper(NamedTuple):
    """A user with an own group that all tests of this file share: each uses its own keys."""

    name: str
    client: SyncMitoClient
    shell: Callable[..., Done]
    home: Path

    def all(self, *commands: tuple[str | Path, ...]) -> list[Done]:
        """Run commands side by side."""
        return side_by_side(lambda command: self.shell(*command), list(commands))

    def used(self) -> int:
        """What the group stores."""
        return self.client.get_group(self.name).storage_used_bytes


@pytest.fixture(scope="module")
def keeper(
    platform: Platform, admin: SyncMitoClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Keeper]:
    name, password = f"keeper-{secrets.token_hex(4)}", secrets.token_hex(16)
    admin.create_user(CreateUserArgs(username=name, password=password))
    home = tmp_path_factory.mktemp("keeper")
    config = ClientConfig(
        coordinator_addr=platform.notice["http"], credential_path=home / "credentials"
    )

    def shell(*arguments: str | Path, **more: object) -> Done:
        return platform.client("--credential-path", home / "credentials", *arguments, **more)

    with contextlib.closing(SyncMitoClient(config)) as client:
        client.login(name, password)
        yield Keeper(name, client, shell, home)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "local.tar.gz"
    path.write_bytes(secrets.token_bytes(100_000))
    return path


def by_plain_http(url: str) -> bytes:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}")
        response = connection.getresponse()
        assert response.status == 200, response.read()
        return response.read()
    finally:
        connection.close()


def members(archive: Path) -> dict[str, bytes]:
    """Names of the files of an archive with their content."""
    with tarfile.open(archive) as tar:
        files = {m.name: tar.extractfile(m) for m in tar.getmembers() if m.isfile()}
        return {name: file.read() for name, file in files.items() if file}


# --- attachments -------------------------------------------------------------------------------


@pytest.mark.parity("S-026", "S-193", "S-199", "V-049")
def test_what_was_uploaded_under_a_key_is_downloaded_with_equal_bytes(
    keeper: Keeper, source: Path, tmp_path: Path
) -> None:
    up = keeper.shell("upload", "attachment", "-g", keeper.name, source, "dir/explicit")
    assert (up.status, up.err) == (0, "")
    assert up.text == f"Uploaded 100000 B as attachment dir/explicit of group {keeper.name}"
    down = keeper.shell("get", "attachment", keeper.name, "dir/explicit", "-o", tmp_path / "got")
    assert (down.status, down.text) == (0, f"Downloaded 100000 B to {tmp_path / 'got'}")
    assert (tmp_path / "got").read_bytes() == source.read_bytes()


@pytest.mark.parity("S-200", "S-194")
def test_the_examples_of_an_attachment_work_as_they_stand(
    platform: Platform, admin: SyncMitoClient, keeper: Keeper, source: Path, seed_group: str
) -> None:
    admin.change_members(seed_group, {keeper.name: Role.WRITE})
    up = keeper.shell("upload", "attachment", "-g", "test_group", source, "attachment_key")
    assert up.status == 0, up.err
    down = keeper.shell("get", "attachment", "test_group", "attachment_key")
    assert down.status == 0, down.err
    path = platform.home.folder / "attachment_key"
    assert path.read_bytes() == source.read_bytes()
    path.unlink()


@pytest.mark.parity("S-201", "V-025")
def test_without_group_and_key_it_goes_to_the_own_group_under_the_name_of_the_file(
    keeper: Keeper, source: Path, tmp_path: Path
) -> None:
    assert keeper.shell("upload", "attachment", source).status == 0
    keeper.client.get_attachment(keeper.name, "local.tar.gz", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == source.read_bytes()
    assert keeper.client.upload_attachment(source, "in/").key == "in/local.tar.gz"


@pytest.mark.parity("S-184", "V-012", "V-047")
def test_the_metadata_of_an_attachment_are_its_size_and_times_on_one_line(
    keeper: Keeper, source: Path
) -> None:
    keeper.client.upload_attachment(source, "meta")
    line, as_json = keeper.all(
        ("get", "attachment-meta", keeper.name, "meta"),
        ("get", "attachment-meta", keeper.name, "meta", "--json"),
    )
    assert re.fullmatch(rf"meta, 100000 B, Created: {TIME}, Updated: {TIME}", line.text)
    assert as_json.json["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    (other,) = keeper.all(("get", "attachment-meta", keeper.name, "no-such-key"))
    assert (other.status, other.out) == (3, b"")


@pytest.mark.parity("S-185", "V-009", "V-010", "V-011")
def test_attachments_are_listed_by_group_and_prefix_page_by_page(
    keeper: Keeper, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    keys = ["list/a", "list/b", "list/c", "other"]
    for key in keys:
        keeper.client.upload_attachment(tmp_path / "f", key)
    own, prefix, page, foreign = keeper.all(
        ("get", "attachments"),
        ("get", "attachments", "-g", keeper.name, "-k", "list/"),
        ("get", "attachments", "-k", "list/", "--limit", "1", "--offset", "1"),
        ("get", "attachments", "-g", "root-of-nothing"),
    )
    assert [line.partition(",")[0] for line in prefix.text.splitlines()] == keys[:3]
    assert {line.partition(",")[0] for line in own.text.splitlines()} >= set(keys)
    assert re.fullmatch(rf"list/b, 5 B, Created: {TIME}, Updated: {TIME}", page.text)
    assert page.err == "3 attachments (1 shown)\n"
    assert foreign.status == 3


@pytest.mark.parity("V-013")
def test_a_folder_as_output_gets_the_last_part_of_the_key(
    keeper: Keeper, source: Path, tmp_path: Path
) -> None:
    keeper.client.upload_attachment(source, "deep/down/name.bin")
    (tmp_path / "folder").mkdir()
    into, missing = keeper.all(
        ("get", "attachment", keeper.name, "deep/down/name.bin", "-o", tmp_path / "folder"),
        ("get", "attachment", keeper.name, "deep/down/name.bin", "-o", tmp_path / "none" / "x"),
    )
    assert into.status == 0, into.err
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["name.bin"]
    assert (tmp_path / "folder" / "name.bin").read_bytes() == source.read_bytes()
    assert (missing.status, "there is no folder" in missing.complaint) == (1, True)


@pytest.mark.parity("V-014", "V-048")
def test_an_attachment_can_be_had_by_its_url_alone(
    platform: Platform, keeper: Keeper, source: Path, tmp_path: Path
) -> None:
    keeper.client.upload_attachment(source, "by-url")
    done, as_json = keeper.all(
        ("get", "attachment", keeper.name, "by-url", "--no-download", "-o", tmp_path / "not"),
        ("get", "attachment", keeper.name, "by-url", "--no-download", "--json"),
    )
    assert not (platform.home.folder / "by-url").exists()  # where the command ran
    assert by_plain_http(done.text) == source.read_bytes()
    assert not (tmp_path / "not").exists()
    assert (as_json.json["path"], as_json.json["size_bytes"]) == (None, 100_000)
    assert by_plain_http(as_json.json["url"]) == source.read_bytes()


@pytest.mark.parity("V-026")
def test_a_folder_and_what_is_no_file_is_refused_before_anything_is_asked(
    keeper: Keeper, tmp_path: Path
) -> None:
    folder, device, missing = keeper.all(
        ("upload", "attachment", tmp_path, "folder"),
        ("upload", "attachment", "/dev/zero", "zero"),
        ("upload", "attachment", tmp_path / "none", "none"),
    )
    assert "is a folder" in folder.complaint
    assert "is no regular file" in device.complaint
    assert "No such file" in missing.complaint
    assert [done.status for done in (folder, device, missing)] == [1, 1, 1]
    page = keeper.client.get_attachments(GetAttachmentsArgs(limit=10_000))
    assert {"folder", "zero", "none"}.isdisjoint(view.key for view in page.attachments)


@pytest.mark.parity("V-027")
def test_keys_that_cannot_be_are_refused(keeper: Keeper, source: Path) -> None:
    bad = ["a//b", "a/./b", "a/../b", "/a", "a/.", "../a", "a\nb", "x" * (1024 - len(keeper.name))]
    for done in keeper.all(*(("upload", "attachment", source, key) for key in bad)):
        assert (done.status, done.out) == (1, b"")
        assert "key" in done.complaint
    longest = "y" * (1023 - len(keeper.name) - 1)
    assert keeper.client.upload_attachment(source, longest).key == longest
    assert keeper.client.get_attachment_meta(keeper.name, longest).size_bytes == 100_000


@pytest.mark.parity("R-16")
def test_keys_with_signs_work_in_every_command(keeper: Keeper, tmp_path: Path) -> None:
    """Upload, list, meta, download (file, folder, URL by plain HTTP) and delete; -o has colons."""
    content = {f"odd/{key}": secrets.token_bytes(50) for key in ODD_KEYS}
    folder, timed = tmp_path / "into", tmp_path / "2026-01-02T03:04:05.tar.gz"
    folder.mkdir()
    for number, data in enumerate(content.values()):
        (tmp_path / str(number)).write_bytes(data)
    ups = keeper.all(
        *(("upload", "attachment", tmp_path / str(n), key) for n, key in enumerate(content))
    )
    assert [done.status for done in ups] == [0] * 5, ups
    page = keeper.client.get_attachments(GetAttachmentsArgs(prefix="odd/"))
    assert {view.key for view in page.attachments} == set(content)
    for key, data in content.items():
        assert keeper.client.get_attachment_meta(keeper.name, key).size_bytes == 50
        target = keeper.client.get_attachment(keeper.name, key, folder)
        assert (target, target.read_bytes()) == (folder / key.removeprefix("odd/"), data)
        assert keeper.client.get_attachment(keeper.name, key, timed).read_bytes() == data
    odd, other = list(content)[:2]
    url, meta = keeper.all(
        ("get", "attachment", keeper.name, odd, "--no-download"),
        ("get", "attachment-meta", keeper.name, other),
    )
    assert by_plain_http(url.text) == content[odd]
    assert meta.text.startswith(f"{other}, 50 B, ")
    assert keeper.shell("groups", "attachments", "delete", odd).status == 0
    for key in list(content)[1:]:
        keeper.client.delete_attachment(keeper.name, key)
    assert keeper.client.get_attachments(GetAttachmentsArgs(prefix="odd/")).total == 0


@pytest.mark.parity("F-16")
def test_an_empty_file_is_a_file(keeper: Keeper, tmp_path: Path) -> None:
    (tmp_path / "e").touch()
    before = keeper.used()
    up = keeper.shell("upload", "attachment", "-g", keeper.name, tmp_path / "e", "k0")
    assert up.text == f"Uploaded 0 B as attachment k0 of group {keeper.name}"
    meta, down = keeper.all(
        ("get", "attachment-meta", keeper.name, "k0"),
        ("get", "attachment", keeper.name, "k0", "-o", tmp_path / "out"),
    )
    assert ", 0 B, " in meta.text
    assert (down.status, (tmp_path / "out").stat().st_size) == (0, 0)
    assert keeper.used() == before


def test_the_renamed_grammar_moves_attachments_too(
    keeper: Keeper, source: Path, tmp_path: Path
) -> None:
    group = ("-g", keeper.name)
    up = keeper.shell("groups", "attachments", "upload", source, "renamed/", *group)
    assert up.status == 0, up.err
    get, query, down = keeper.all(
        ("groups", "attachments", "get", *group, "renamed/local.tar.gz"),
        ("groups", "attachments", "query", *group, "-k", "named/local"),
        ("groups", "attachments", "download", *group, "renamed/local.tar.gz", "-o", tmp_path / "d"),
    )
    assert get.text == query.text
    assert get.text.startswith("renamed/local.tar.gz, 100000 B, ")
    assert (tmp_path / "d").read_bytes() == source.read_bytes(), down
    gone = keeper.shell("groups", "attachments", "delete", *group, "renamed/local.tar.gz")
    assert gone.text == f"Deleted attachment renamed/local.tar.gz of group {keeper.name}"
    with pytest.raises(NotFound):
        keeper.client.get_attachment_meta(keeper.name, "renamed/local.tar.gz")


def test_pages_neither_repeat_nor_leave_out_a_file_while_others_come_and_go(
    keeper: Keeper, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(b"1")
    for key in ("flow/a", "flow/c", "flow/e"):
        keeper.client.upload_attachment(tmp_path / "f", key)
    wanted = GetAttachmentsArgs(prefix="flow/", limit=2)
    page = keeper.client.get_attachments(wanted)
    assert [view.key for view in page.attachments] == ["flow/a", "flow/c"]
    keeper.client.delete_attachment(keeper.name, "flow/a")
    keeper.client.upload_attachment(tmp_path / "f", "flow/b")
    wanted = GetAttachmentsArgs(prefix="flow/", limit=2, after=page.next or "")
    page = keeper.client.get_attachments(wanted)
    assert ([view.key for view in page.attachments], page.next) == (["flow/e"], None)
    everything = keeper.client.each_attachment(GetAttachmentsArgs(prefix="flow/", limit=1))
    assert [view.key for view in everything] == ["flow/b", "flow/c", "flow/e"]


@pytest.mark.parity("D-081")
def test_a_file_can_be_deleted_as_soon_as_it_is_there(keeper: Keeper, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"1")
    keeper.client.upload_attachment(tmp_path / "f", "young")
    assert keeper.client.delete_attachment(keeper.name, "young").changed


# --- quota -------------------------------------------------------------------------------------


@pytest.mark.parity("V-029")
def test_a_group_may_store_sixteen_gigabytes_unless_somebody_says_otherwise(keeper: Keeper) -> None:
    assert keeper.client.get_group(keeper.name).storage_quota_bytes == 16 * 1000**3
    done = keeper.shell("get", "group", keeper.name)
    assert re.search(r"Storage.*/ ?16(\.0)? ?GB", done.text), done.text


@pytest.mark.parity("D-075", "D-076", "D-077", "D-078", "D-079")
def test_a_group_is_charged_for_what_it_stores_whatever_happens_at_once(
    keeper: Keeper, admin: SyncMitoClient, tmp_path: Path
) -> None:
    """Overwritten by a smaller file, by many at once, deleted, refused: the sum stays exact."""
    before = keeper.used()
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"x" * 10)
    large.write_bytes(b"y" * 1000)
    keeper.client.upload_attachment(large, "charged")
    assert keeper.used() == before + 1000
    assert keeper.client.upload_attachment(small, "charged").replaced
    assert keeper.used() == before + 10
    done = keeper.all(
        *(("upload", "attachment", (small, large)[n % 2], f"charged/{n % 3}") for n in range(6)),
        ("groups", "attachments", "delete", "charged"),
    )
    assert [one.status for one in done] == [0] * 7, done
    page = keeper.client.get_attachments(GetAttachmentsArgs(prefix="charged"))
    assert keeper.used() - before == sum(view.size_bytes for view in page.attachments)
    for view in page.attachments:
        keeper.client.delete_attachment(keeper.name, view.key)
    admin.set_storage_quota(keeper.name, f"={before + 999}")
    try:
        with pytest.raises(LimitReached, match="quota"):
            keeper.client.upload_attachment(large, "over")
        keeper.client.upload_attachment(small, "over")
    finally:
        admin.set_storage_quota(keeper.name, "=16GB")
    keeper.client.delete_attachment(keeper.name, "over")
    assert keeper.used() == before


def test_only_members_read_and_only_writers_write(keeper: Keeper, admin: SyncMitoClient) -> None:
    """A stranger, by the SDK: what they may not do leaves no trace."""
    source = keeper.home / "file"
    source.write_bytes(b"1")
    keeper.client.upload_attachment(source, "mine")
    stranger = admin  # administrates the platform, and is no member
    with pytest.raises(NotAllowed):
        stranger.upload_attachment(source, "theirs", keeper.name)
    assert stranger.get_attachment_meta(keeper.name, "mine").size_bytes == 1
    assert stranger.delete_attachment(keeper.name, "mine").changed
    with pytest.raises(NotFound):
        keeper.client.get_attachment_meta(keeper.name, "mine")


# --- artifacts ---------------------------------------------------------------------------------


class Outputs(NamedTuple):
    """Tasks of the administrator that have ended, each with other outputs."""

    client: SyncMitoClient
    full: str
    bare: str
    empty: str
    odd: str


@pytest.fixture(scope="module")
def outputs(admin: SyncMitoClient) -> Outputs:
    full = (
        'echo result > "$MITO_RESULT_DIR/r.txt"; echo log > "$MITO_EXEC_DIR/e.txt"; '
        ': > "$MITO_RESULT_DIR/empty"; echo a; echo b >&2'
    )
    done = ended(
        admin,
        in_shell(full, terminal=True),
        in_shell("echo a"),
        in_shell('mkdir -p "$MITO_RESULT_DIR/a/b"'),
        in_shell(
            'cd "$MITO_RESULT_DIR" && mkdir logs_2026-01-02T03:04:05 && '
            "echo 1 | tee logs_2026-01-02T03:04:05/a.qlog > C:x; echo 2 > 'back\\slash'"
        ),
    )
    assert [view.outcome for view in done] == [Outcome.SUCCEEDED] * 4
    return Outputs(admin, *(view.uuid for view in done))


@pytest.mark.parity("S-170", "S-190")
def test_files_of_the_result_folder_are_in_the_result(
    platform: Platform, outputs: Outputs, shell: Callable[..., Done]
) -> None:
    done = shell("get", "artifact", outputs.full, "result")
    assert done.status == 0, done.err
    path = platform.home.folder / "result.tar.gz"
    assert members(path) == {"result/r.txt": b"result\n", "result/empty": b""}
    path.unlink()


@pytest.mark.parity("S-171", "S-173", "S-175")
def test_a_task_that_leaves_nothing_has_no_artifacts(outputs: Outputs) -> None:
    for kind in ArtifactKind:
        with pytest.raises(NotFound, match="has no artifact"):
            outputs.client.get_artifact(outputs.bare, kind)
    assert outputs.client.get_task(outputs.bare).artifacts == []


@pytest.mark.parity("S-172")
def test_files_of_the_execution_folder_are_in_the_execution_log(
    outputs: Outputs, tmp_path: Path
) -> None:
    path = outputs.client.get_artifact(outputs.full, ArtifactKind.EXEC_LOG, tmp_path)
    assert members(path) == {"exec-log/e.txt": b"log\n"}


@pytest.mark.parity("S-174")
def test_terminal_output_is_in_two_files(outputs: Outputs, tmp_path: Path) -> None:
    path = outputs.client.get_artifact(outputs.full, ArtifactKind.STD_LOG, tmp_path)
    assert members(path) == {"std-log/stdout.log": b"a\n", "std-log/stderr.log": b"b\n"}


@pytest.mark.parity("F-17")
def test_a_folder_of_empty_folders_is_kept_as_such_and_no_failure(
    outputs: Outputs, tmp_path: Path
) -> None:
    path = outputs.client.get_artifact(outputs.empty, ArtifactKind.RESULT, tmp_path)
    with tarfile.open(path) as tar:
        assert [(m.name, m.isdir()) for m in tar.getmembers()] == [
            ("result", True), ("result/a", True), ("result/a/b", True),
        ]  # fmt: skip


@pytest.mark.parity("R-16")
def test_outputs_keep_names_with_colons_and_backslashes(outputs: Outputs, tmp_path: Path) -> None:
    path = outputs.client.get_artifact(outputs.odd, ArtifactKind.RESULT, tmp_path / "x:y.tar.gz")
    assert members(path) == {
        "result/logs_2026-01-02T03:04:05/a.qlog": b"1\n",
        "result/C:x": b"1\n",
        "result/back\\slash": b"2\n",
    }


@pytest.mark.parity("S-177")
def test_each_type_of_output_has_its_name_and_no_other_is_accepted(
    outputs: Outputs, shell: Callable[..., Done], tmp_path: Path
) -> None:
    good, bad = side_by_side(
        lambda command: shell(*command),
        [
            ("get", "artifact", outputs.full, "exec-log", "-o", tmp_path),
            ("get", "artifact", outputs.full, "results"),
        ],
    )
    assert good.status == 0
    assert (bad.status, bad.out) == (2, b"")
    assert "result, exec-log, std-log" in bad.err
    for kind in ("result", "std-log"):
        assert outputs.client.get_artifact(outputs.full, ArtifactKind(kind), tmp_path).exists()


@pytest.mark.parity("S-191", "V-016", "V-048")
def test_an_output_goes_where_it_is_wanted_in_a_folder_under_its_usual_name(
    outputs: Outputs, shell: Callable[..., Done], tmp_path: Path
) -> None:
    kinds = [kind.value for kind in ArtifactKind]
    done = side_by_side(
        lambda command: shell(*command),
        [
            *(("get", "artifact", outputs.full, kind, "-o", tmp_path) for kind in kinds),
            ("get", "artifact", outputs.full, "result", "-o", tmp_path / "named.tgz"),
        ],
    )
    names = ["exec-log.tar.gz", "named.tgz", "result.tar.gz", "std-log.tar.gz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    size = (tmp_path / "named.tgz").stat().st_size
    assert done[3].text == f"Downloaded {size} B to {tmp_path / 'named.tgz'}"


@pytest.mark.parity("S-192", "V-017", "S-198")
def test_the_examples_of_an_artifact_work_as_they_stand(
    platform: Platform, outputs: Outputs, shell: Callable[..., Done], source: Path
) -> None:
    """Names without -o are the usual ones, in the present folder."""
    (platform.home.folder / "local.tar.gz").write_bytes(source.read_bytes())
    up = shell("upload", "artifact", outputs.bare, "exec-log", "local.tar.gz")
    assert up.text == f"Uploaded 100000 B as exec-log of task {outputs.bare}"
    down = shell("get", "artifact", outputs.bare, "exec-log")
    assert down.text == "Downloaded 100000 B to exec-log.tar.gz"
    path = platform.home.folder / "exec-log.tar.gz"
    assert path.read_bytes() == source.read_bytes()
    path.unlink()
    outputs.client.delete_artifact(outputs.bare, ArtifactKind.EXEC_LOG)


@pytest.mark.parity("V-015")
def test_an_artifact_can_be_had_by_its_url_alone(
    outputs: Outputs, shell: Callable[..., Done], tmp_path: Path
) -> None:
    done = shell("get", "artifact", outputs.full, "exec-log", "--no-download", "-o", tmp_path)
    with tarfile.open(fileobj=io.BytesIO(by_plain_http(done.text))) as tar:
        assert "exec-log/e.txt" in tar.getnames()
    assert not list(tmp_path.iterdir())


@pytest.mark.parity("S-197", "D-085")
def test_a_file_becomes_an_output_of_a_task_that_has_ended_and_can_be_deleted(
    outputs: Outputs, shell: Callable[..., Done], source: Path, tmp_path: Path
) -> None:
    up = shell("upload", "artifact", outputs.bare, "result", source)
    assert up.status == 0, up.err
    path = outputs.client.get_artifact(outputs.bare, ArtifactKind.RESULT, tmp_path)
    assert path.read_bytes() == source.read_bytes()
    (shown,) = outputs.client.get_task(outputs.bare).artifacts
    assert (shown.kind, shown.size_bytes) == (ArtifactKind.RESULT, 100_000)
    again = shell("tasks", "artifacts", "upload", source, outputs.bare, "result", "--json")
    assert again.json["replaced"] is True
    gone = shell("tasks", "artifacts", "delete", outputs.bare, "result")
    assert gone.text == f"Deleted result of task {outputs.bare}"
    with pytest.raises(NotFound):
        outputs.client.get_artifact(outputs.bare, ArtifactKind.RESULT)


@pytest.mark.parity("S-195")
def test_artifacts_and_attachments_are_apart(
    outputs: Outputs, admin: SyncMitoClient, source: Path, tmp_path: Path
) -> None:
    """The same name in both, each with its own bytes."""
    group = admin.get_task(outputs.full).group
    admin.upload_attachment(source, "result.tar.gz", group)
    attachment = admin.get_attachment(group, "result.tar.gz", tmp_path / "attachment")
    artifact = admin.get_artifact(outputs.full, ArtifactKind.RESULT, tmp_path / "artifact")
    assert attachment.read_bytes() == source.read_bytes() != artifact.read_bytes()
    admin.delete_attachment(group, "result.tar.gz")
    assert admin.get_artifact(outputs.full, ArtifactKind.RESULT, tmp_path / "again").exists()


@pytest.mark.parity("S-196")
def test_upload_has_its_subcommands(shell: Callable[..., Done]) -> None:
    done = shell("upload", "help")
    assert done.status == 0
    for name in ("artifact", "attachment", "help"):
        assert re.search(rf"^ +{name}\b", done.text, re.MULTILINE), done.text


@pytest.mark.parity("F-16")
def test_an_output_with_an_empty_file_has_an_empty_member(outputs: Outputs, tmp_path: Path) -> None:
    path = outputs.client.get_artifact(outputs.full, ArtifactKind.RESULT, tmp_path)
    assert members(path)["result/empty"] == b""
