import os
from pathlib import Path

import pytest

from mitosis.services.platform import weed_sockets
from mitosis.services.platform.embedded_s3 import EmbeddedS3, S3Keys
from mitosis.services.platform.ports import free_ports


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(weed_sockets, "_folders", lambda: {tmp_path})
    return tmp_path


def left(folder: Path, port: int) -> Path:
    path = folder / f"seaweedfs-filer-grpc-{port}.sock"
    path.touch()
    return path


def test_only_sockets_of_the_own_ports_are_removed(folder: Path) -> None:
    ours, another = left(folder, 20_001), left(folder, 20_002)
    (folder / "seaweedfs-filer-x.sock").touch()
    weed_sockets.remove_sockets([20_001])
    assert not ours.exists()
    assert another.exists()


def test_a_port_whose_socket_somebody_else_has_left_is_not_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server could neither make nor remove it, and did not start."""
    server = EmbeddedS3(folder / "s3", keys=S3Keys(access_key="a", secret_key="b"))
    (folder / "s3").mkdir()
    kept = server._choose_ports(fresh=True)
    server._kept.save(kept)
    assert server._choose_ports(fresh=False) == kept
    port = kept["filer"]
    socket = left(folder, port)
    assert server._choose_ports(fresh=False) == kept, "our own is removed at the start"
    somebody = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: somebody)
    assert weed_sockets.ports_of_others() == {port}
    assert port not in server._choose_ports(fresh=False).values()
    weed_sockets.remove_sockets([port])
    assert socket.exists()


def test_a_port_is_free_when_it_is_usable_by_the_word_of_who_asks() -> None:
    refused = set(range(20_000, 31_000))
    assert not refused & set(free_ports(3, is_usable=lambda port: port not in refused))
