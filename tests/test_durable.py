"""A file is written whole or not at all, and nothing but a file is ever written over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tocsin.durable import write_whole
from tocsin.errors import InputError


def test_a_link_is_followed(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"old")
    link.symlink_to(real)

    write_whole(link, b"new")

    assert link.is_symlink() and real.read_bytes() == b"new"


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o666])
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(mode)

    write_whole(path, b"new")

    assert path.read_bytes() == b"new" and path.stat().st_mode & 0o777 == mode


@pytest.mark.skipif(os.name == "nt", reason="the umask is a thing of POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_new_file_has_what_the_umask_leaves(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "file", b"new")
    finally:
        os.umask(before)

    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    pipe, folder = tmp_path / "pipe", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()

    for place in (pipe, folder):
        with pytest.raises(InputError, match="no regular file"):
            write_whole(place, b"new")

    assert pipe.is_fifo() and folder.is_dir()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "pipe"]


def test_a_place_that_cannot_be_is_an_error_that_names_it(tmp_path: Path) -> None:
    for place in (tmp_path / "nowhere" / "file", tmp_path / "nul\0"):
        with pytest.raises(InputError, match="cannot write"):
            write_whole(place, b"new")
