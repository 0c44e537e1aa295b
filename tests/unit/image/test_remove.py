"""Trees are removed whatever is in them, and nothing beside them."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from jubako.errors import JubakoError
from jubako.image import remove
from jubako.image.remove import remove_tree


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def without_openat2(*_arguments: object) -> int:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


@pytest.fixture(params=["openat2", "an older kernel"])
def _kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "openat2":
        monkeypatch.setattr(remove, "openat2", without_openat2)


@pytest.mark.usefixtures("_kernel")
def test_links_are_removed_and_what_they_lead_to_stays(directory: int, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("stays")
    (tmp_path / "tree/below").mkdir(parents=True)
    (tmp_path / "tree/below/link").symlink_to(tmp_path / "outside")
    (tmp_path / "tree/file").symlink_to(tmp_path / "outside/file")
    os.link(tmp_path / "outside/file", tmp_path / "tree/hard")
    os.mkfifo(tmp_path / "tree/fifo")
    remove_tree(directory, "tree")
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    assert (tmp_path / "outside/file").read_text() == "stays"


@pytest.mark.usefixtures("_kernel")
def test_directories_without_permissions_are_no_obstacle(directory: int, tmp_path: Path) -> None:
    (tmp_path / "tree/a/b").mkdir(parents=True)
    (tmp_path / "tree/a/b/file").touch()
    (tmp_path / "tree/c").mkdir()
    (tmp_path / "tree/c/file").touch()
    for path, mode in (("tree/a/b", 0), ("tree/a", 0), ("tree/c", 0o444), ("tree", 0o400)):
        (tmp_path / path).chmod(mode)
    remove_tree(directory, "tree")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_kernel")
def test_a_tree_deeper_than_descriptors_and_path_names_reach_is_removed(directory: int) -> None:
    os.mkdir("tree", dir_fd=directory)
    here = os.open("tree", os.O_RDONLY, dir_fd=directory)
    for _depth in range(3000):  # longer than PATH_MAX, more levels than descriptors
        os.mkdir("d" * 10, dir_fd=here)
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=here))
        below = os.open("d" * 10, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        remove_tree(directory, "tree")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert os.listdir(directory) == []


def test_a_deep_directory_without_permissions_is_moved_up_all_the_same(directory: int, tmp_path: Path) -> None:
    deep = tmp_path / "tree" / "/".join("d" * (remove.MAX_DEPTH + 3))
    deep.mkdir(parents=True)
    (deep / "file").touch()
    for path in (deep, deep.parent, deep.parent.parent):
        path.chmod(0)
    remove_tree(directory, "tree")
    assert os.listdir(directory) == []


def test_what_is_absent_is_removed_already(directory: int) -> None:
    remove_tree(directory, "nothing")


def test_a_failure_names_the_file_and_the_cause(
    directory: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tree/mounted").mkdir(parents=True)

    def crossing(_fd: int, name: str, *_rest: object) -> int:
        if name == "mounted":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), name)
        return os.open(name, os.O_RDONLY, dir_fd=_fd)

    monkeypatch.setattr(remove, "openat2", crossing)
    with pytest.raises(JubakoError, match=r"remove mounted: .*EXDEV") as caught:
        remove_tree(directory, "tree")
    assert "mounted there" in caught.value.hint
    assert (tmp_path / "tree/mounted").is_dir()
