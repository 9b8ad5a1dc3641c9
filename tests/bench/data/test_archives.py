"""Archives: unpacked whole or not at all, and nothing outside the folder, whatever they hold."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import struct
import tarfile
import zipfile
from collections import namedtuple
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.data.getting import archives
from bench.errors import DataError


def tar(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def test_tar_and_zip_unpack(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar.gz", (member("in/x.txt"), b"1"), (member("y.txt"), b"2"))
    archives.extract(tmp_path / "a.tar.gz", tmp_path / "tar")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/x.txt", "1")
        archive.writestr("y.txt", "2")
    archives.extract(tmp_path / "a.zip", tmp_path / "zip")
    for folder in ("tar", "zip"):
        assert (tmp_path / folder / "in" / "x.txt").read_text() == "1"
        assert (tmp_path / folder / "y.txt").read_text() == "2"
    assert archives.archives_in(tmp_path) == [tmp_path / "a.tar.gz", tmp_path / "a.zip"]


def test_unpacking_again_replaces_what_was_there(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", (member("in/x"), b"1"), mode="w")
    (tmp_path / "out" / "in").mkdir(parents=True)
    (tmp_path / "out" / "in" / "old").write_text("half")
    archives.extract(tmp_path / "a.tar", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "in").iterdir()] == ["x"]


def unpack_and_die(archive: Path, into: Path) -> None:
    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    archives._move = die  # in this process alone
    archives.extract(archive, into)


def test_what_a_killed_unpacking_left_goes_with_the_next(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", (member("in/x"), b"1"), mode="w")
    words = (tmp_path / "a.tar", tmp_path / "out")
    process = multiprocessing.get_context("fork").Process(target=unpack_and_die, args=words)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert len(list(tmp_path.glob("*.tmp"))) == 1
    archives.extract(*words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "out"]


FILTERS = ("data_filter", "tar_filter", "fully_trusted_filter", "FilterError", "AbsolutePathError")


@pytest.fixture
def without_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make tarfile what it is up to Python 3.11.3: no filters, no errors of theirs."""
    for name in FILTERS:
        monkeypatch.delattr(tarfile, name, raising=False)
    for name in ("extract", "extractall"):
        former = getattr(tarfile.TarFile, name)

        def unfiltered(self: tarfile.TarFile, *words: object, former: object = former) -> object:
            return former(self, *words)  # type: ignore[operator]

        monkeypatch.setattr(tarfile.TarFile, name, unfiltered)


def linked(path: Path) -> Path:
    """Write an archive with links that lead inside it, one of them before its file."""
    return tar(
        path,
        (member("in/early", tarfile.SYMTYPE, "../late/x"), b""),
        (member("late/x"), b"1"),
        (member("in/hard", tarfile.LNKTYPE, "late/x"), b""),
        (member("up", tarfile.SYMTYPE, "late"), b""),
        (member("twice", tarfile.SYMTYPE, "up/x"), b""),
    )


def test_links_inside_are_kept(tmp_path: Path) -> None:
    archives.extract(linked(tmp_path / "a.tar.gz"), tmp_path / "out")
    for name in ("in/early", "in/hard", "up/x", "twice", "late/x"):
        assert (tmp_path / "out" / name).read_text() == "1"
    assert (tmp_path / "out" / "twice").is_symlink()


def test_pythons_without_filters_unpack_and_refuse_alike(
    tmp_path: Path, without_filters: None
) -> None:
    (tmp_path / "plain").mkdir()
    test_tar_and_zip_unpack(tmp_path / "plain")
    archives.extract(linked(tmp_path / "b.tar.gz"), tmp_path / "links")
    assert (tmp_path / "links" / "twice").read_text() == "1"
    for number, name in enumerate(name for name in BAD if ".tar" in name):
        folder = tmp_path / str(number)
        folder.mkdir()
        test_unsafe_and_damaged_archives_leave_nothing(folder, name)


def test_modes_and_owners_are_dropped(tmp_path: Path) -> None:
    info = member("x")
    info.mode, info.uid, info.uname = 0o6777, 12345, "nobody"
    archives.extract(tar(tmp_path / "a.tar", (info, b"1"), mode="w"), tmp_path / "out")
    found = (tmp_path / "out" / "x").stat()
    assert found.st_mode & 0o7111 == 0
    assert found.st_uid == os.getuid()


def zip_with(path: Path, name: str, *, link: bool = False) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.create_system = 3
        info.external_attr = (0o120777 if link else 0o100644) << 16
        archive.writestr(info, "/etc/passwd")
    return path


def encrypted(path: Path) -> Path:
    zip_with(path, "x")
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = content.index(mark) + offset
        content[at : at + 2] = struct.pack("<H", 1)
    path.write_bytes(content)
    return path


def bomb(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(archives.SMALL_BYTES + 1))
    return path


def liar(path: Path) -> Path:
    """Write a zip whose headers claim one byte of a member of many."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", bytes(5000))
    content = path.read_bytes().replace(struct.pack("<I", 5000), struct.pack("<I", 1))
    path.write_bytes(content)
    return path


def cut(path: Path) -> Path:
    tar(path, (member("x"), os.urandom(5000)))
    path.write_bytes(path.read_bytes()[:2000])
    return path


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "zip up.zip": (lambda p: zip_with(p, "../evil"), r"'\.\./evil' would be written outside"),
    "zip absolute.zip": (lambda p: zip_with(p, "/evil"), "would be written outside"),
    "zip windows.zip": (lambda p: zip_with(p, "..\\evil"), "would be written outside"),
    "zip link.zip": (lambda p: zip_with(p, "evil", link=True), "evil is a link"),
    "encrypted.zip": (encrypted, "x is encrypted"),
    "bomb.zip": (bomb, r"unpacks to more than 64 MiB, 200 times its size"),
    "liar.zip": (liar, r"larger than its header says|damaged archive"),
    "no zip.zip": (lambda p: p.write_bytes(b"text") and p, "damaged archive"),
    "up.tar.gz": (lambda p: tar(p, (member("../evil"), b"x")), "would be written outside"),
    "absolute.tar": (lambda p: tar(p, (member("/evil"), b"x"), mode="w"), "written outside"),
    "link.tar.gz": (
        lambda p: tar(p, (member("evil", tarfile.SYMTYPE, "../../etc"), b"")), "unsafe member",
    ),
    "hard link.tar.gz": (
        lambda p: tar(p, (member("evil", tarfile.LNKTYPE, "/etc/passwd"), b"")), "unsafe member",
    ),
    "link in link.tar.gz": (
        lambda p: tar(
            p,
            (member("a/b/root", tarfile.SYMTYPE, "../.."), b""),
            (member("a/b/evil", tarfile.SYMTYPE, "root/../.."), b""),
        ),
        "unsafe member",
    ),
    "through a link.tar.gz": (
        lambda p: tar(p, (member("d", tarfile.SYMTYPE, "/tmp"), b""), (member("d/evil"), b"x")),
        "cannot be unpacked|unsafe member",
    ),
    "absolute link.tar.gz": (
        lambda p: tar(p, (member("evil", tarfile.SYMTYPE, str(p)), b"")), "unsafe member",
    ),
    "link to nothing.tar.gz": (
        lambda p: tar(p, (member("evil", tarfile.SYMTYPE, "nowhere"), b"")), "unsafe member",
    ),
    "circle.tar.gz": (
        lambda p: tar(p, (member("evil", tarfile.SYMTYPE, "evil"), b"")), "unsafe member",
    ),
    "hard link up.tar.gz": (
        lambda p: tar(p, (member("evil", tarfile.LNKTYPE, "../x"), b"")), "unsafe member",
    ),
    "fifo.tar.gz": (lambda p: tar(p, (member("evil", tarfile.FIFOTYPE), b"")), "is a device"),
    "device.tar.gz": (lambda p: tar(p, (member("evil", tarfile.CHRTYPE), b"")), "is a device"),
    "cut.tar.gz": (cut, "damaged archive"),
    "no tar.tar.gz": (lambda p: p.write_bytes(b"text") and p, "damaged archive"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_unsafe_and_damaged_archives_leave_nothing(tmp_path: Path, name: str) -> None:
    make, told = BAD[name]
    archive = make(tmp_path / name)
    with pytest.raises(DataError, match=told):
        archives.extract(archive, tmp_path / "deep" / "out")
    assert list((tmp_path / "deep").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "deep"])


def test_too_little_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tar(tmp_path / "a.tar.gz", (member("x"), bytes(5000)))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: usage(10**6, 0, 1000))
    with pytest.raises(DataError, match=r"unpacks to more than the 0\.0 GiB that are free\. Free"):
        archives.extract(archive, tmp_path / "out")


def test_two_at_once_unpack_one_after_the_other(tmp_path: Path) -> None:
    members = [(member(f"in/{index}"), b"1") for index in range(200)]
    archive = tar(tmp_path / "a.tar", *members, mode="w")
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(archives.extract, archive, tmp_path / "out") for _ in range(4)]
        for one in done:
            one.result()
    assert len(list((tmp_path / "out" / "in").iterdir())) == 200
