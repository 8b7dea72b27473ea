"""`get artifact --extract`: what a task left, unpacked where its user wants it."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mitosis import SyncMitoClient
from mitosis.artifacts.unpack import unpack
from mitosis.contract.queries import TaskView
from mitosis.domain.task import ArtifactKind, Outcome
from mitosis.errors import TooLarge

from .conftest import Done, ended, in_shell

# F-19 and F-20 at once: what an archive, a packer and an unpacker can stumble over.
ODD = """cd $MITO_RESULT_DIR
ln -s /nope dangling; ln -s . loop; ln -s /etc/shadow leak; ln -s f own
mkfifo pipe; python3 -c 'import socket; socket.socket(1).bind("sock")'; mkdir -p empty/a
printf x > -dash; printf y > "$(printf 'a\\nb')"; printf z > "$(printf 'n\\377')"; echo ok > f"""


@pytest.fixture(scope="module")
def odd(admin: SyncMitoClient) -> TaskView:
    (view,) = ended(admin, in_shell(ODD, terminal=True))
    assert view.outcome is Outcome.SUCCEEDED, view
    return view


@pytest.mark.parity("F-19", "D-016", "D-044")
def test_links_are_packed_as_links_and_nothing_from_outside_is_in_the_results(
    admin: SyncMitoClient, odd: TaskView, tmp_path: Path
) -> None:
    archive = admin.get_artifact(odd.uuid, ArtifactKind.RESULT, tmp_path)
    with tarfile.open(archive, errors="surrogateescape") as tar:
        found = {member.name: member.linkname for member in tar if member.issym()}
        content = {member.name for member in tar if member.isfile()}
    assert found == {
        "result/dangling": "/nope", "result/loop": ".", "result/leak": "/etc/shadow",
        "result/own": "f",
    }  # fmt: skip
    assert content == {"result/-dash", "result/a\nb", "result/n\udcff", "result/f"}


@pytest.mark.parity("F-20")
def test_pipes_and_sockets_cost_a_warning_and_the_task_succeeds_in_seconds(odd: TaskView) -> None:
    warnings = " ".join(odd.warnings)
    assert "pipe" in warnings
    assert "sock" in warnings
    assert odd.started_at is not None
    assert odd.ended_at is not None
    assert (odd.ended_at - odd.started_at).total_seconds() < 30
    assert ArtifactKind.RESULT in {artifact.kind for artifact in odd.artifacts}


def test_results_are_unpacked_whole_and_what_leads_out_is_named(
    shell: Callable[..., Done], odd: TaskView, tmp_path: Path
) -> None:
    target = tmp_path / "here"
    done = shell("get", "artifact", odd.uuid, "result", "--extract", "-o", target)
    assert done.status == 0, done
    assert done.text.startswith("Extracted ")
    assert done.text.endswith(f" to {target}")
    assert "2 left out, links or special files: result/dangling, result/leak" in done.err
    assert [path.name for path in target.iterdir()] == ["result"]
    assert (target / "result" / "f").read_text() == "ok\n"
    assert (target / "result" / "own").readlink() == Path("f")
    assert (target / "result" / "empty" / "a").is_dir()
    assert not (target / "result" / "leak").is_symlink()

    again = shell("get", "artifact", odd.uuid, "result", "--extract", "-o", target)
    assert again.status in {1, 2}
    assert f"{target / 'result'} exists already" in again.complaint
    logs = shell("--json", "get", "artifact", odd.uuid, "std-log", "--extract", "-o", target)
    assert logs.json["extracted"]["members"] == 2
    assert logs.json["path"] == str(target)
    assert (target / "std-log" / "stdout.log").read_bytes() == b""


def test_a_hostile_or_too_large_archive_is_refused_and_leaves_nothing(
    admin: SyncMitoClient, shell: Callable[..., Done], tmp_path: Path
) -> None:
    (view,) = ended(admin, in_shell("head -c 3M /dev/zero > $MITO_RESULT_DIR/zeros"))
    target = tmp_path / "here"
    done = shell(
        "get", "artifact", view.uuid, "result", "--extract", "--max-size", "2MB", "-o", target
    )
    assert done.status != 0
    assert "unpacking is limited to 2.0 MB" in done.complaint
    with pytest.raises(TooLarge):
        admin.get_artifact(
            view.uuid, ArtifactKind.RESULT, target, extract=True, max_size_bytes=2_000_000
        )

    with tarfile.open(tmp_path / "bad.tar.gz", "w:gz") as tar:
        for name in ("result/good", "../owned"):
            header = tarfile.TarInfo(name)
            header.size = 1
            tar.addfile(header, io.BytesIO(b"x"))
    admin.upload_artifact(view.uuid, ArtifactKind.RESULT, tmp_path / "bad.tar.gz")
    done = shell("get", "artifact", view.uuid, "result", "--extract", "-o", target)
    assert done.status != 0
    assert "'../owned', which leads out" in done.complaint
    assert list(target.iterdir()) == []
    assert not (tmp_path / "owned").exists()
    assert admin.get_artifact(view.uuid, ArtifactKind.RESULT, tmp_path / "as-it-is").exists()
    with pytest.raises(Exception, match="leads out"):
        unpack(tmp_path / "as-it-is", tmp_path / "again")


def test_a_url_cannot_be_unpacked(shell: Callable[..., Done], odd: TaskView) -> None:
    done = shell("get", "artifact", odd.uuid, "result", "--extract", "--no-download")
    assert done.status == 2
    assert "exclude each other" in done.err
