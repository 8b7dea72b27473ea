import json
import os
import stat
from pathlib import Path

import pytest

from mitosis.services.platform.credentials import Credentials
from mitosis.services.platform.failures import FolderInUse, FolderRefused
from mitosis.services.platform.folder import FORMAT, DataFolder


def test_a_new_folder_is_made_and_marked_with_its_format(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "a" / "data")
    folder.open()
    mark = json.loads((folder.path / "mitosis.json").read_text())
    assert mark["format"] == FORMAT
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


def test_a_folder_of_a_newer_version_is_refused_and_let_alone(tmp_path: Path) -> None:
    mark = {"format": FORMAT + 1, "made_by": "9.9.0", "made_at": "2031-01-01T00:00:00Z"}
    (tmp_path / "mitosis.json").write_text(json.dumps(mark))
    with pytest.raises(FolderRefused, match=r"format 2.*9\.9\.0.*install") as caught:
        DataFolder(tmp_path).open()
    assert caught.value.details == {"found": FORMAT + 1, "known": FORMAT}
    assert {path.name for path in tmp_path.iterdir()} == {"mitosis.json", "supervisor.lock"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "one"}'])
def test_a_damaged_mark_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "mitosis.json").write_text(text)
    with pytest.raises(FolderRefused, match=r"mitosis\.json cannot be read"):
        DataFolder(tmp_path).open()


def test_somebody_elses_files_are_not_taken_for_a_data_folder(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("do not touch")
    with pytest.raises(FolderRefused, match="neither empty nor"):
        DataFolder(tmp_path).open()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(FolderRefused, match="give another"):
        DataFolder(tmp_path / "data").open()


def test_one_supervisor_at_a_time(tmp_path: Path) -> None:
    first, second = DataFolder(tmp_path), DataFolder(tmp_path)
    first.open()
    with pytest.raises(FolderInUse, match=f"process {os.getpid()}"):
        second.open()
    first.close()
    second.open()


def test_a_refused_folder_is_not_left_locked(tmp_path: Path) -> None:
    (tmp_path / "mitosis.json").write_text("{")
    with pytest.raises(FolderRefused):
        DataFolder(tmp_path).open()
    (tmp_path / "mitosis.json").unlink()
    DataFolder(tmp_path).open()


def test_secrets_are_made_once_and_kept(tmp_path: Path) -> None:
    first, second = Credentials(tmp_path), Credentials(tmp_path)
    assert first.service == second.service
    assert first.s3 == second.s3
    assert first.admin_password == second.admin_password
    assert first.private_pem == second.private_pem


def test_secrets_differ_between_platforms_and_are_private(tmp_path: Path) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    one.mkdir()
    two.mkdir()
    assert Credentials(one).service.password != Credentials(two).service.password
    assert Credentials(one).private_pem != Credentials(two).private_pem
    assert {stat.S_IMODE(path.stat().st_mode) for path in one.iterdir()} == {0o600}
    assert len(list(one.iterdir())) == 4


def test_what_was_lost_of_a_key_pair_is_made_again_from_the_private_key(tmp_path: Path) -> None:
    credentials = Credentials(tmp_path)
    public = credentials.public_key_path.read_bytes()
    credentials.public_key_path.unlink()
    assert Credentials(tmp_path).public_key_path.read_bytes() == public


@pytest.mark.parametrize("name", ["services.json", "private.pem"])
def test_a_damaged_secret_is_named_and_never_replaced(tmp_path: Path, name: str) -> None:
    Credentials(tmp_path)
    (tmp_path / name).write_text("rubbish")
    with pytest.raises(FolderRefused, match=name):
        Credentials(tmp_path)
    assert (tmp_path / name).read_text() == "rubbish"
