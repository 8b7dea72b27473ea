"""Archives that are small and would take all memory while they are unpacked."""

import gzip
import io
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from mitosis.artifacts import unpack as unpacking
from mitosis.artifacts.unpack import unpack
from mitosis.errors import MitosisError, TooLarge

MIB = 1 << 20
MOST_BYTES = 24 * MIB  # with the headers of one member, and what the reader of gzip holds


def peak_bytes(archive: Path, target: Path) -> tuple[int, str]:
    """The memory of an unpacking, and why it was refused."""
    tracemalloc.start()
    refused = ""
    try:
        unpack(archive, target)
    except MitosisError as error:
        refused = error.message
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak, refused


def map_without_end(out: gzip.GzipFile) -> None:
    """Sparse form 1.0: the pieces of a file are listed in front of its content."""
    count = 500_000
    header = tarfile.TarInfo("a")
    header.size = 1 << 30
    header.pax_headers = {
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a",
        "GNU.sparse.realsize": "4096",
    }  # fmt: skip
    out.write(header.tobuf(tarfile.PAX_FORMAT))
    out.write(f"{2 * count}\n".encode())
    for _ in range(count // 1000):
        out.write(b"1000000000\n1000000000\n" * 1000)


def chain_that_is_cut(out: gzip.GzipFile) -> None:
    header = tarfile.TarInfo("a")
    header.type = tarfile.GNUTYPE_SPARSE
    head = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    head[482] = 1
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    out.write(bytes(head))


def chain_of_pieces_without_end(out: gzip.GzipFile) -> None:
    """The older sparse form: blocks of 21 pieces, each of which says that one more follows."""
    chain_that_is_cut(out)
    piece = b"00000000001\0"
    block = (piece * 42 + b"\1").ljust(512, b"\0")
    for _ in range(40_000):
        out.write(block)


def long_links(out: gzip.GzipFile) -> None:
    for number in range(40):
        header = tarfile.TarInfo(str(number))
        header.type = tarfile.SYMTYPE
        header.linkname = "x" * MIB
        out.write(header.tobuf(tarfile.PAX_FORMAT))
    out.write(bytes(1024))


def long_names_that_are_left_out(out: gzip.GzipFile) -> None:
    for number in range(300):
        header = tarfile.TarInfo(f"{number}/" + f"{'x' * 255}/" * 500)
        header.type = tarfile.CHRTYPE
        out.write(header.tobuf(tarfile.PAX_FORMAT))
    out.write(bytes(1024))


def one_long_name(out: gzip.GzipFile) -> None:
    out.write(tarfile.TarInfo("x" * MIB).tobuf(tarfile.PAX_FORMAT) + bytes(1024))


def words_for_all_members(out: gzip.GzipFile) -> None:
    for number in range(40):
        header = tarfile.TarInfo.create_pax_global_header({f"k{number}": "x" * MIB})
        out.write(header + tarfile.TarInfo(str(number)).tobuf(tarfile.PAX_FORMAT))
    out.write(bytes(1024))


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (map_without_end, "a header of the archive has more than"),
        (chain_of_pieces_without_end, "a header of the archive has more than"),
        (long_links, ""),
        (long_names_that_are_left_out, ""),
        (one_long_name, "a member with a name of more than 255 bytes: 'xxx"),
        (chain_that_is_cut, "is damaged or no gzip tar"),
        (words_for_all_members, "headers for all its members"),
    ],
)
def test_headers_fill_no_memory(
    tmp_path: Path, write: Callable[[gzip.GzipFile], None], why: str
) -> None:
    with gzip.open(tmp_path / "a", "wb", compresslevel=1) as out:
        write(out)
    peak, refused = peak_bytes(tmp_path / "a", tmp_path / "out")
    assert peak < MOST_BYTES
    assert why in refused, refused
    assert bool(refused) is bool(why)
    assert len(refused) < 2_000


def test_a_link_that_no_kernel_makes_is_left_out_and_named_in_short(tmp_path: Path) -> None:
    archive = tmp_path / "a"
    with tarfile.open(archive, "w:gz") as tar:
        for name, target in (("short", "x" * 4_095), ("nn/" * 2_000, "x" * 4_096)):
            header = tarfile.TarInfo(name)
            header.type, header.linkname = tarfile.SYMTYPE, target
            tar.addfile(header)
    done = unpack(archive, tmp_path / "out")
    assert (done.members, done.skipped_count) == (1, 1)
    assert len(done.skipped[0]) < 1_100


def test_names_that_are_kept_until_the_end_have_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "a"
    with tarfile.open(archive, "w:gz") as tar:
        for number in range(20):
            header = tarfile.TarInfo(f"folder-{number:03}")
            header.type = tarfile.DIRTYPE
            tar.addfile(header)
            tar.addfile(tarfile.TarInfo(f"file-{number}"), io.BytesIO(b""))
    assert unpack(archive, tmp_path / "out").members == 40
    monkeypatch.setattr(unpacking, "MAX_HELD_BYTES", 199)
    with pytest.raises(TooLarge, match="names of folders and links"):
        unpack(archive, tmp_path / "again")
