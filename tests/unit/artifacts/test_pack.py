import gzip
import hashlib
import io
import os
import resource
import shutil
import socket
import subprocess
import sys
import tarfile
import tracemalloc
import unicodedata
from pathlib import Path

import pytest

from mitosis.artifacts.pack import (
    MAX_DEPTH,
    MAX_WARNINGS,
    PackingStopped,
    Reader,
    SpoiledFolder,
    pack_directory,
    pack_std_log,
)
from mitosis.artifacts.target import MAX_DEPTH as DEPTH
from mitosis.artifacts.unpack import MAX_SKIPPED, UnpackingStopped, unpack
from mitosis.errors import CorruptData, TooLarge


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    made.mkdir()
    return made


def names(archive: Path) -> list[str]:
    with tarfile.open(archive, errors="surrogateescape") as tar:
        return tar.getnames()


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_empty_folder_gives_no_archive(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    assert pack_directory(folder, "result", archive) is None
    assert not archive.exists()


def test_a_folder_that_its_program_removed_gives_no_archive(tmp_path: Path) -> None:
    assert pack_directory(tmp_path / "gone", "result", tmp_path / "a.tar.gz") is None


def test_a_tree_comes_back_as_it_was(folder: Path, tmp_path: Path) -> None:
    (folder / "sub" / "empty").mkdir(parents=True)
    (folder / "sub" / "data").write_bytes(b"\0\1" * 700)
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "latest").symlink_to("sub/data")
    packed = pack_directory(folder, "result", tmp_path / "a.tar.gz")
    assert packed is not None
    assert packed.warnings == ()
    assert packed.members == 5
    assert packed.size_bytes == packed.path.stat().st_size
    assert packed.sha256 == hashlib.sha256(packed.path.read_bytes()).hexdigest()
    out = unpack(packed.path, tmp_path / "out")
    assert out.skipped == ()
    back = tmp_path / "out" / "result"
    assert (back / "sub" / "data").read_bytes() == b"\0\1" * 700
    assert (back / "sub" / "empty").is_dir()
    assert (back / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (back / "latest").readlink() == Path("sub/data")


NAMES = (
    b"line\nbreak", b"\xff\xfe", b"x" * 255, b"\xfe" * 255, "\u00e9".encode() * 127,
    *(unicodedata.normalize(form, "\u00e9").encode() for form in ("NFC", "NFD")),
    b"-rf", b" ", b"a b", b"C:x", b"back\\slash", b"*", b"\t", b"100%", b"GNUSparseFile.0",
)  # fmt: skip


@pytest.mark.parametrize("what", ["files", "folders", "links", "holes"])
def test_names_come_back_byte_for_byte(folder: Path, tmp_path: Path, what: str) -> None:
    for name in NAMES:
        path = folder / os.fsdecode(name)
        if what == "folders":
            path.mkdir()
        elif what == "links":
            path.symlink_to(os.fsdecode(b"to-" + name[:200]))
        elif what == "files":
            path.write_bytes(name)
        else:
            holey(path, 4 << 20, (2 << 20, name))
    packed = pack_directory(folder, "result", tmp_path / "a.tar.gz")
    assert packed is not None
    assert packed.warnings == ()
    out = unpack(packed.path, tmp_path / "out")
    assert out.skipped == ()
    back = tmp_path / "out" / "result"
    assert sorted(os.fsencode(path.name) for path in back.iterdir()) == sorted(NAMES)
    for name in NAMES:
        path = back / os.fsdecode(name)
        if what == "links":
            assert os.fsencode(path.readlink()) == b"to-" + name[:200]
        elif what != "folders":
            assert path.read_bytes().strip(b"\0") == name
    with tarfile.open(packed.path, errors="surrogateescape") as tar:
        told = {os.fsencode(member.name) for member in tar if member.name != "result"}
    assert told == {b"result/" + name for name in NAMES}


def test_the_archive_is_readable_for_its_owner_only(folder: Path, tmp_path: Path) -> None:
    (folder / "a").write_text("a")
    packed = pack_directory(folder, "result", tmp_path / "a.tar.gz")
    assert packed is not None
    assert packed.path.stat().st_mode & 0o777 == 0o600


def test_equal_trees_made_at_other_times_and_in_another_order_give_equal_bytes(
    tmp_path: Path,
) -> None:
    archives = []
    for turn, order in enumerate((["b", "a", "Z"], ["Z", "b", "a"])):
        tree = tmp_path / f"tree{turn}"
        tree.mkdir()
        for name in order:
            (tree / name).write_text(name * 1000)
            os.utime(tree / name, (turn * 1e8 + 5, turn * 1e8 + 5))
        packed = pack_directory(tree, "result", tmp_path / f"{turn}.tar.gz")
        assert packed is not None
        archives.append(packed.path.read_bytes())
    assert archives[0] == archives[1]
    assert names(tmp_path / "0.tar.gz") == ["result", "result/Z", "result/a", "result/b"]


def test_headers_name_no_owner_and_gnu_tar_reads_the_archive_without_a_word(
    folder: Path, tmp_path: Path
) -> None:
    (folder / ("x" * 200)).write_text("long name")
    (folder / "été\n").write_text("odd name")
    (folder / os.fsdecode(b"\xff\xfe")).mkdir()
    packed = pack_directory(folder, "exec-log", tmp_path / "a.tar.gz")
    assert packed is not None
    with tarfile.open(packed.path) as tar:
        owners = {(m.uid, m.gid, m.uname, m.gname) for m in tar.getmembers()}
    assert owners == {(0, 0, "", "")}
    (tmp_path / "out").mkdir()
    done = subprocess.run(
        ["tar", "--no-same-owner", "-xzf", packed.path, "-C", tmp_path / "out"],
        capture_output=True,
        check=True,
    )
    # GNU tar 1.34 names the keyword that marks a name as no UTF-8, and does the right thing.
    words = [line for line in done.stderr.splitlines() if b"hdrcharset" not in line]
    assert words == []
    assert entries(tmp_path / "out" / "exec-log") == entries(folder)


def test_links_that_lead_out_are_stored_as_links_and_never_followed(
    folder: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("do not pack")
    (folder / "dir").symlink_to(secret)
    (folder / "file").symlink_to(secret / "key")
    (folder / "self").symlink_to("self")
    packed = pack_directory(folder, "result", tmp_path / "a.tar.gz")
    assert packed is not None
    assert b"do not pack" not in gzip.decompress(packed.path.read_bytes())
    with tarfile.open(packed.path) as tar:
        links = {m.name: m.linkname for m in tar.getmembers() if m.issym()}
    assert links == {
        "result/dir": str(secret),
        "result/file": str(secret / "key"),
        "result/self": "self",
    }


def test_pipes_sockets_and_unreadable_files_are_left_out_with_a_warning(
    folder: Path, tmp_path: Path
) -> None:
    os.mkfifo(folder / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(folder)  # the path of a socket has a bound
    try:
        listener.bind("sock")
    finally:
        os.chdir(here)
    (folder / "good").write_text("good")
    (folder / "closed").write_text("closed")
    (folder / "closed").chmod(0)
    packed = pack_directory(folder, "result", tmp_path / "a.tar.gz")
    listener.close()
    assert packed is not None
    expected = [
        "result/fifo: left out (only files, folders and links are packed)",
        "result/sock: left out (only files, folders and links are packed)",
    ]
    if os.geteuid() != 0:  # root reads everything
        expected.insert(0, "result/closed: left out (Permission denied, errno 13)")
    assert list(packed.warnings) == expected
    assert "result/good" in names(packed.path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root packs what others made")
def test_what_the_user_of_the_program_may_not_read_is_left_out(
    folder: Path, tmp_path: Path
) -> None:
    """Where the kernel lets everybody make hard links, a name of it proves nothing."""
    for name, uid, gid, mode in (
        ("mine", 4711, 4711, 0o000), ("open", 0, 0, 0o604), ("shared", 0, 50, 0o640),
        ("foreign", 0, 51, 0o640), ("secret", 0, 0, 0o600),
    ):  # fmt: skip
        (tmp_path / name).write_text(name)
        os.chown(tmp_path / name, uid, gid)
        (tmp_path / name).chmod(mode)
        os.link(tmp_path / name, folder / name)
    archive = tmp_path / "a.tar.gz"
    packed = pack_directory(folder, "result", archive, reader=Reader(4711, (4711, 50)))
    assert packed is not None
    assert names(archive) == ["result", "result/mine", "result/open", "result/shared"]
    assert [text.partition(":")[0] for text in packed.warnings] == [
        "result/foreign", "result/secret"
    ]  # fmt: skip
    assert all("left out (Permission denied, errno 13)" in text for text in packed.warnings)


def test_warnings_are_bounded_and_the_rest_counted(folder: Path, tmp_path: Path) -> None:
    for number in range(MAX_WARNINGS + 5):
        os.mkfifo(folder / f"fifo{number:03}")
    packed = pack_directory(folder, "result", tmp_path / "a.tar.gz")
    assert packed is not None
    assert len(packed.warnings) == MAX_WARNINGS + 1
    assert packed.warnings[-1] == "and 5 more warnings about packing"


def test_a_tree_deeper_than_the_bound_is_cut_with_a_warning(folder: Path, tmp_path: Path) -> None:
    deep = folder
    for _ in range(MAX_DEPTH + 20):
        deep /= "d"
        deep.mkdir()
    open_before = len(entries(Path("/proc/self/fd")))
    packed = pack_directory(folder, "result", tmp_path / "a.tar.gz")
    assert packed is not None
    assert packed.members == MAX_DEPTH - 1
    assert packed.warnings[0].endswith(f"left out (deeper than {MAX_DEPTH} folders)")
    assert len(entries(Path("/proc/self/fd"))) == open_before


def test_what_was_packed_from_a_path_that_no_kernel_takes_is_unpacked(
    folder: Path, tmp_path: Path
) -> None:
    """60 folders with names of 100 characters: each is short, all together are over 4096 bytes."""
    depth, name = 60, "n" * 100
    script = (
        "import os, sys\nos.chdir(sys.argv[1])\n"
        f"for _ in range({depth}):\n os.mkdir('{name}'); os.chdir('{name}')\n"
        "open('f', 'w').write('deep')\nos.symlink('f', 'l')\n"
    )
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True)
    packed = pack_directory(folder, "result", tmp_path / "a.tar.gz")
    assert packed is not None
    assert (packed.members, packed.warnings) == (depth + 2, ())
    open_before = len(entries(Path("/proc/self/fd")))
    out = unpack(packed.path, tmp_path / "out")
    assert (out.members, out.skipped_count) == (depth + 3, 0)
    assert len(entries(Path("/proc/self/fd"))) == open_before
    back = (
        "import os, sys\nos.chdir(sys.argv[1])\n"
        f"for _ in range({depth}): os.chdir('{name}')\nprint(open('l').read())\n"
    )
    argv = [sys.executable, "-c", back, str(tmp_path / "out" / "result")]
    assert subprocess.run(argv, check=True, capture_output=True).stdout == b"deep\n"
    for made in (folder, tmp_path / "out"):
        shutil.rmtree(made)


def test_folders_in_each_other_without_end_are_refused(tmp_path: Path) -> None:
    """Whoever removes them again needs a descriptor for each."""
    deep = make_archive(tmp_path / "a", (tarfile.TarInfo("d/" * (DEPTH + 1) + "f"), b""))
    with pytest.raises(TooLarge, match=f"more than {DEPTH} folders in each other"):
        unpack(deep, tmp_path / "out")
    assert entries(tmp_path / "out") == []
    made = make_archive(tmp_path / "b", (tarfile.TarInfo("d/" * DEPTH + "f"), b""))
    assert unpack(made, tmp_path / "out").members == 1


def test_a_file_that_shrinks_while_it_is_read_is_filled_with_zeros(
    folder: Path, tmp_path: Path
) -> None:
    victim = folder / "b"
    victim.write_bytes(b"x" * (3 << 20))
    asked = 0

    def shrink() -> bool:
        nonlocal asked
        asked += 1
        if asked == 3:  # once before the member, then once a chunk of 1 MiB
            os.truncate(victim, 1 << 20)
        return False

    packed = pack_directory(folder, "result", tmp_path / "a.tar.gz", stop=shrink)
    assert packed is not None
    assert packed.warnings == ("result/b: shrank while it was packed: the rest is zeros",)
    unpack(packed.path, tmp_path / "out")
    content = (tmp_path / "out/result/b").read_bytes()
    assert len(content) == 3 << 20
    assert content == b"x" * (1 << 20) + bytes(2 << 20)


def test_a_stopped_packing_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / "a").write_text("a")
    with pytest.raises(PackingStopped):
        pack_directory(folder, "result", tmp_path / "a.tar.gz", stop=lambda: True)
    assert not (tmp_path / "a.tar.gz").exists()


def holey(path: Path, size: int, *pieces: tuple[int, bytes]) -> None:
    with path.open("wb") as file:
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)
        file.truncate(size)


def test_holes_stay_holes_in_the_archive_and_when_it_is_unpacked(
    folder: Path, tmp_path: Path
) -> None:
    size, mark = 200 << 30, os.urandom(4096)
    holey(folder / "disk.img", size, (0, b"first"), (7 << 30, mark), (150 << 30, b"last"))
    holey(folder / "nothing.img", 5 << 30)
    (folder / "small").write_bytes(b"ok")
    packed = pack_directory(folder, "result", tmp_path / "a")
    assert packed is not None
    assert packed.size_bytes < 100_000
    assert packed.warnings == ()
    assert unpack(tmp_path / "a", tmp_path / "out").members == 4
    back = tmp_path / "out/result/disk.img"
    assert back.stat().st_size == size
    assert back.stat().st_blocks * 512 < 1 << 20
    with back.open("rb") as file:
        for offset, wanted in ((0, b"first\0"), (7 << 30, mark), (150 << 30, b"last\0")):
            file.seek(offset)
            assert file.read(len(wanted)) == wanted
    assert (tmp_path / "out/result/nothing.img").stat().st_size == 5 << 30


def test_gnu_tar_reads_what_has_holes(folder: Path, tmp_path: Path) -> None:
    holey(folder / "a.img", 40 << 20, (3 << 20, b"x" * 5000), (33 << 20, b"y" * 700))
    (folder / "after").write_bytes(b"ok")
    pack_directory(folder, "result", tmp_path / "a")
    subprocess.run(["tar", "xzf", tmp_path / "a", "-C", tmp_path], check=True)
    assert (tmp_path / "result/a.img").read_bytes() == (folder / "a.img").read_bytes()
    assert (tmp_path / "result/after").read_bytes() == b"ok"


def test_a_file_with_holes_that_shrinks_is_filled_with_zeros(folder: Path, tmp_path: Path) -> None:
    path = folder / "a.img"
    holey(path, 40 << 20, (3 << 20, b"x" * 8192), (33 << 20, b"y" * 8192))
    asked = 0

    def cut() -> bool:
        nonlocal asked
        asked += 1
        if asked == 2:  # the header is written
            os.truncate(path, (3 << 20) + 4096)
        return False

    packed = pack_directory(folder, "result", tmp_path / "a", stop=cut)
    assert packed is not None
    assert packed.warnings == ("result/a.img: shrank while it was packed: the rest is zeros",)
    unpack(tmp_path / "a", tmp_path / "out")
    content = (tmp_path / "out/result/a.img").read_bytes()
    assert len(content) == 40 << 20
    assert content.count(b"x") == 4096
    assert b"y" not in content


def test_a_hole_counts_as_what_it_would_be_on_disk_when_an_archive_is_unpacked(
    folder: Path, tmp_path: Path
) -> None:
    holey(folder / "bomb.img", 50 << 30, (0, b"first"))
    pack_directory(folder, "result", tmp_path / "a")
    with pytest.raises(TooLarge):
        unpack(tmp_path / "a", tmp_path / "out", max_bytes=1 << 30)


def test_memory_does_not_grow_with_the_number_of_members(folder: Path, tmp_path: Path) -> None:
    for number in range(20_000):
        (folder / str(number)).touch()
    tracemalloc.start()
    packed = pack_directory(folder, "result", tmp_path / "a")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert packed is not None
    assert packed.members == 20_000
    assert peak < 6 << 20  # names and buffers; with the headers of all members it is 9.6 MB


def test_an_archive_is_never_written_over_something(folder: Path, tmp_path: Path) -> None:
    (folder / "a").write_text("a")
    (tmp_path / "a.tar.gz").write_text("precious")
    with pytest.raises(FileExistsError):
        pack_directory(folder, "result", tmp_path / "a.tar.gz")
    assert (tmp_path / "a.tar.gz").read_text() == "precious"


def test_a_full_disk_is_an_error_of_the_archive_and_not_of_a_member(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "a").write_bytes(os.urandom(4 << 20))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            pack_directory(folder, "result", tmp_path / "a.tar.gz")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "a.tar.gz").exists()


def test_a_machine_without_descriptors_leaves_no_member_out_but_fails_the_archive(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "a").write_text("a")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = [os.open("/", os.O_RDONLY) for _ in range(20)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 1, before[1]))
    try:
        for fd in held[-2:]:  # for the folder and the archive, and none for the member
            os.close(fd)
        with pytest.raises(OSError, match="Too many open files"):
            pack_directory(folder, "result", tmp_path / "a.tar.gz")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for fd in held[:-2]:
            os.close(fd)
    assert not (tmp_path / "a.tar.gz").exists()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_a_program_put_in_the_place_of_its_folder_is_its_own_doing(
    tmp_path: Path, kind: str
) -> None:
    place = tmp_path / "result"
    place.touch() if kind == "file" else place.symlink_to("/etc")
    with pytest.raises(SpoiledFolder, match="left out"):
        pack_directory(place, "result", tmp_path / "a.tar.gz")
    assert not (tmp_path / "a.tar.gz").exists()


def test_terminal_output_is_packed_even_when_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a\n")
    (tmp_path / "err").write_text("")
    packed = pack_std_log(tmp_path / "out", tmp_path / "err", tmp_path / "a.tar.gz")
    with tarfile.open(packed.path) as tar:
        found = [(m.name, m.size, m.mode) for m in tar.getmembers()]
    assert found == [("std-log/stdout.log", 2, 0o664), ("std-log/stderr.log", 0, 0o664)]


def make_archive(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for header, content in members:
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return path


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    header = tarfile.TarInfo(name)
    header.type, header.linkname = kind, target
    return header, b""


@pytest.mark.parametrize("name", ["/etc/owned", "../owned", "a/../../owned", "a/../b"])
def test_a_member_whose_name_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    archive = make_archive(tmp_path / "a", (tarfile.TarInfo(name), b"x"))
    with pytest.raises(CorruptData, match="leads out of it"):
        unpack(archive, tmp_path / "deep" / "out")
    assert not (tmp_path / "deep" / "owned").exists()
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("target", ["/etc", "..", "../..", "x/../../.."])
def test_links_that_lead_out_are_not_made(tmp_path: Path, target: str) -> None:
    archive = make_archive(tmp_path / "a", link("l", target))
    assert unpack(archive, tmp_path / "out").skipped == ("l",)
    assert list((tmp_path / "out").iterdir()) == []


def test_nothing_is_written_through_a_link_of_the_archive(tmp_path: Path) -> None:
    archive = make_archive(
        tmp_path / "a", link("d", "sub"), (tarfile.TarInfo("d/file"), b"through")
    )
    with pytest.raises(FileExistsError):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out" / "sub").exists()


def test_hard_links_and_devices_are_skipped(tmp_path: Path) -> None:
    archive = make_archive(
        tmp_path / "a",
        link("hard", "/etc/passwd", tarfile.LNKTYPE),
        link("dev", "", tarfile.CHRTYPE),
    )
    assert unpack(archive, tmp_path / "out").skipped == ("hard", "dev")


def test_more_bytes_or_members_than_allowed_are_refused(tmp_path: Path) -> None:
    archive = make_archive(
        tmp_path / "a", (tarfile.TarInfo("a"), bytes(1000)), (tarfile.TarInfo("b"), bytes(1000))
    )
    with pytest.raises(TooLarge, match="more bytes"):
        unpack(archive, tmp_path / "one", max_bytes=1999)
    with pytest.raises(TooLarge, match="more members"):
        unpack(archive, tmp_path / "two", max_members=1)
    assert unpack(archive, tmp_path / "three", max_bytes=2000, max_members=2).members == 2


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("pax")
    header.type = tarfile.XHDTYPE
    header.size = 64 << 20
    with gzip.open(tmp_path / "a", "wb") as out:
        out.write(header.tobuf(tarfile.USTAR_FORMAT))
        out.write(bytes(64 << 20))
    with pytest.raises(TooLarge, match="header"):
        unpack(tmp_path / "a", tmp_path / "out")


def test_a_chain_of_headers_without_end_is_called_damaged(tmp_path: Path) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 0
    with gzip.open(tmp_path / "a", "wb") as out:
        out.write(header.tobuf(tarfile.USTAR_FORMAT) * 5_000)
    with pytest.raises(CorruptData, match="damaged"):
        unpack(tmp_path / "a", tmp_path / "out")


def test_a_member_of_negative_size_is_refused(tmp_path: Path) -> None:
    """It would make the reader go in circles."""
    header = tarfile.TarInfo("a")
    header.size = -512
    with gzip.open(tmp_path / "a", "wb") as out:
        out.write(header.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    with pytest.raises(CorruptData):
        unpack(tmp_path / "a", tmp_path / "out")


@pytest.mark.parametrize("ending", [b"", b"\1" * 512, b"\1" * 4096])
def test_damage_behind_a_member_is_not_taken_for_the_end(tmp_path: Path, ending: bytes) -> None:
    header = tarfile.TarInfo("a")
    with gzip.open(tmp_path / "a", "wb") as out:
        out.write(header.tobuf(tarfile.GNU_FORMAT) + ending)
    with pytest.raises(CorruptData, match="damaged"):
        unpack(tmp_path / "a", tmp_path / "out")


@pytest.mark.parametrize("pieces", [[(512, 512), (0, 512)], [(0, 512), (0, 512)], [(0, -5)]])
def test_a_map_of_holes_that_goes_backwards_is_refused(
    tmp_path: Path, pieces: list[tuple[int, int]]
) -> None:
    text = "\n".join(str(number) for piece in pieces for number in piece)
    table = f"{len(pieces)}\n{text}\n".encode().ljust(512, b"\0")
    header = tarfile.TarInfo("a")
    header.size = 512 + 1024
    header.pax_headers = {
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a",
        "GNU.sparse.realsize": "4096",
    }  # fmt: skip
    with tarfile.open(tmp_path / "a", "w:gz", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(header, io.BytesIO(table + b"x" * 1024))
    with pytest.raises(CorruptData, match="map of holes"):
        unpack(tmp_path / "a", tmp_path / "out")


def test_the_name_of_a_file_with_holes_counts_wherever_it_stands(tmp_path: Path) -> None:
    name = "result/" + "n" * 150
    header = tarfile.TarInfo(f"result/GNUSparseFile.0/{'n' * 150}")  # its path comes as the last
    header.size = 512
    header.pax_headers = {
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": name,
        "GNU.sparse.realsize": "4096",
    }  # fmt: skip
    archive = tmp_path / "a"
    with tarfile.open(archive, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(header, io.BytesIO(b"1\n4096\n0\n".ljust(512, b"\0")))
    unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / name).read_bytes() == bytes(4096)


def test_an_archive_of_a_folder_by_its_dot_is_unpacked(tmp_path: Path) -> None:
    dot = tarfile.TarInfo("./")
    dot.type = tarfile.DIRTYPE
    archive = make_archive(tmp_path / "a", (dot, b""), (tarfile.TarInfo("./x"), b"1"))
    assert unpack(archive, tmp_path / "out").members == 1
    assert (tmp_path / "out" / "x").read_bytes() == b"1"


def test_what_is_left_out_is_named_up_to_a_bound(tmp_path: Path) -> None:
    links = [link(f"l{number}\udcff", "/etc") for number in range(MAX_SKIPPED + 5)]
    done = unpack(make_archive(tmp_path / "a", *links), tmp_path / "out")
    assert (len(done.skipped), done.skipped_count) == (MAX_SKIPPED, MAX_SKIPPED + 5)
    assert done.skipped[0] == "l0\\xff"


def test_a_stop_ends_the_unpacking_between_two_pieces(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "a", (tarfile.TarInfo("a"), bytes(5 << 20)))
    asked = iter([False, False, True])
    with pytest.raises(UnpackingStopped):
        unpack(archive, tmp_path / "out", stop=lambda: next(asked))
    assert (tmp_path / "out" / "a").stat().st_size == 1 << 20


@pytest.mark.parametrize("content", [b"", b"no gzip", gzip.compress(b"no tar" * 200)])
def test_what_is_no_archive_is_called_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(CorruptData, match="damaged or no gzip tar"):
        unpack(tmp_path / "a", tmp_path / "out")


@pytest.mark.parametrize(
    "said",
    [
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "100"},
        {"GNU.sparse.map": "0,x", "GNU.sparse.size": "10"},
    ],
)
def test_a_map_of_holes_that_is_no_map_is_called_damaged(
    tmp_path: Path, said: dict[str, str]
) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as tar:
        header = tarfile.TarInfo("result/f")
        header.pax_headers = said
        tar.addfile(header)
    with pytest.raises(CorruptData, match="damaged"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")


def test_a_truncated_archive_is_called_damaged(folder: Path, tmp_path: Path) -> None:
    (folder / "a").write_bytes(os.urandom(100_000))
    packed = pack_directory(folder, "result", tmp_path / "a")
    assert packed is not None
    (tmp_path / "cut").write_bytes(packed.path.read_bytes()[:50_000])
    with pytest.raises(CorruptData, match="damaged"):
        unpack(tmp_path / "cut", tmp_path / "out")
