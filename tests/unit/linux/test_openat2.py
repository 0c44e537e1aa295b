"""Paths below a root that somebody hostile filled: nothing leads out, with openat2(2) and without it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jubako.linux import openat2
from jubako.linux.openat2 import is_directory, make_directory_in, make_file_in, open_in


@pytest.fixture(params=["openat2", "walk"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the system call, and with a kernel that has none."""
    monkeypatch.setattr(openat2, "_missing", request.param == "walk")
    return str(request.param)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """What must never be reached: beside the root, under the name that the root's own has."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    (tmp_path / "secret").write_text("secret")
    return tmp_path / "outside"


@pytest.fixture
def place(tmp_path: Path, outside: Path) -> Path:
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/passwd").write_text("inside")
    return tmp_path / "root"


@pytest.fixture
def root(place: Path) -> Iterator[int]:
    fd = os.open(place, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def read(root: int, path: str) -> str:
    with os.fdopen(open_in(root, path, os.O_RDONLY)) as file:
        return file.read()


def where(fd: int) -> str:
    """Where a descriptor leads; it is closed."""
    path = os.readlink(f"/proc/self/fd/{fd}")
    os.close(fd)
    return path


def number(call: object) -> int:
    """The errno that the call fails with."""
    with pytest.raises(OSError) as caught:
        call()  # type: ignore[operator]
    return caught.value.errno or 0


@pytest.mark.parametrize(
    "path",
    ["etc/passwd", "/etc/passwd", "//etc/./passwd", "../etc/passwd", "../../../../etc/passwd", "etc/../etc/passwd",
     "link", "absolute", "up", "chain", "through/passwd", "through/../etc/passwd", "deep/er/absolute", "deep/er/up"],
)  # fmt: skip
def test_a_path_means_the_roots_own_file_however_it_is_written(root: int, place: Path, way: str, path: str) -> None:
    (place / "link").symlink_to("etc/passwd")
    (place / "absolute").symlink_to("/etc/passwd")
    (place / "up").symlink_to("../../../../../../etc/passwd")
    (place / "chain").symlink_to("/./up")
    (place / "through").symlink_to("/../etc/")
    (place / "deep/er").mkdir(parents=True)
    (place / "deep/er/absolute").symlink_to("/etc/passwd")
    (place / "deep/er/up").symlink_to("../../etc/passwd")
    assert read(root, path) == "inside"


@pytest.mark.parametrize("target", ["../secret", "/secret", "../outside/secret", "OUTSIDE/secret", "/../../../secret"])
def test_no_link_leads_out(root: int, place: Path, outside: Path, way: str, target: str) -> None:
    (place / "link").symlink_to(target.replace("OUTSIDE", str(outside)))
    (place / "dir").symlink_to(str(outside))
    for path in ("link", "dir/secret", "etc/../link", "../secret", f"..{outside}/secret"):
        assert number(lambda path=path: open_in(root, path)) == errno.ENOENT


def test_a_descriptor_closes_on_exec_and_none_is_lost(root: int, place: Path, way: str) -> None:
    (place / "a/b/c").mkdir(parents=True)
    (place / "link").symlink_to("a/b")
    before = os.listdir("/proc/self/fd")
    fd = open_in(root, "link/../b/c", os.O_PATH | os.O_DIRECTORY)
    assert not os.get_inheritable(fd)
    assert where(fd) == str(place / "a/b/c")
    for wrong in ("a/none", "etc/passwd/x", "link/none/x"):
        number(lambda wrong=wrong: open_in(root, wrong))
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("path", ["loop", "self/x", "a", "loop/x"])
def test_links_in_a_circle_end(root: int, place: Path, way: str, path: str) -> None:
    (place / "loop").symlink_to("loop")
    (place / "self").symlink_to("self/deeper")
    (place / "a").symlink_to("b")
    (place / "b").symlink_to("/a")
    for call in (open_in, make_directory_in, make_file_in):
        assert number(lambda call=call: call(root, path)) == errno.ELOOP


def test_as_many_links_as_the_kernel_follows_are_followed(root: int, place: Path, way: str) -> None:
    (place / "l0").symlink_to("etc/passwd")
    for position in range(1, 45):
        (place / f"l{position}").symlink_to(f"l{position - 1}")
    assert read(root, "l39") == "inside"  # 40 links
    assert number(lambda: open_in(root, "l40")) == errno.ELOOP


def test_what_is_not_there_and_what_is_no_directory_are_told(root: int, way: str) -> None:
    assert number(lambda: open_in(root, "none")) == errno.ENOENT
    assert number(lambda: open_in(root, "none/x")) == errno.ENOENT
    assert number(lambda: open_in(root, "etc/passwd/x")) == errno.ENOTDIR
    assert number(lambda: open_in(root, "etc/passwd/..")) == errno.ENOTDIR
    assert number(lambda: open_in(root, "etc/passwd", os.O_PATH | os.O_DIRECTORY)) == errno.ENOTDIR
    with pytest.raises(FileNotFoundError) as caught:
        open_in(root, "etc/none")
    assert caught.value.filename == "etc/none"


def test_a_last_link_is_not_followed_where_that_is_asked(root: int, place: Path, way: str) -> None:
    (place / "link").symlink_to("etc/passwd")
    fd = open_in(root, "link", os.O_PATH | os.O_NOFOLLOW)
    assert stat.S_ISLNK(os.fstat(fd).st_mode)
    os.close(fd)


def test_the_root_itself_can_be_opened(root: int, place: Path, way: str) -> None:
    for path in ("/", ".", "..", "../.."):
        assert where(open_in(root, path)) == str(place)


def test_a_file_can_be_made_by_flags(root: int, place: Path, way: str) -> None:
    os.close(open_in(root, "etc/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640))
    assert stat.S_IMODE((place / "etc/new").stat().st_mode) == 0o640
    assert number(lambda: open_in(root, "etc/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)) == errno.EEXIST


def test_magic_links_lead_nowhere(way: str, outside: Path) -> None:
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    held = os.open(outside, os.O_RDONLY)
    try:
        for path in (f"self/fd/{held}/secret", f"self/fd/{held}", "self/exe", "self/cwd", "self/root/etc"):
            assert number(lambda path=path: open_in(proc, path)) in (errno.ELOOP, errno.ENOENT)
    finally:
        os.close(proc)
        os.close(held)


def test_without_the_system_call_the_walk_is_taken_and_remembered(root: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def refused(*arguments: object) -> int:
        calls.append(arguments)
        raise OSError(errno.ENOSYS, "none")

    monkeypatch.setattr(openat2, "_missing", False)
    monkeypatch.setattr(openat2, "openat2", refused)
    assert read(root, "/etc/passwd") == read(root, "etc/passwd") == "inside"
    assert len(calls) == 1


def test_a_race_with_a_rename_is_tried_again_but_not_for_ever(root: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = openat2.openat2, []

    def raced(*arguments: object) -> int:
        calls.append(arguments)
        if len(calls) < 5:
            raise OSError(errno.EAGAIN, "raced")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(openat2, "_missing", False)
    monkeypatch.setattr(openat2, "openat2", raced)
    assert read(root, "etc/passwd") == "inside"
    calls.clear()
    monkeypatch.setattr(openat2, "openat2", lambda *_: (_ for _ in ()).throw(OSError(errno.EAGAIN, "raced")))
    assert number(lambda: open_in(root, "etc/passwd")) == errno.EAGAIN


# --- making what is missing


def test_missing_directories_are_made_on_the_way(root: int, place: Path, way: str) -> None:
    old = os.umask(0)
    try:
        assert where(make_directory_in(root, "/a/b/c", 0o750)) == str(place / "a/b/c")
    finally:
        os.umask(old)
    assert [stat.S_IMODE((place / part).stat().st_mode) for part in ("a", "a/b", "a/b/c")] == [0o750] * 3
    assert where(make_directory_in(root, "a/b/c")) == str(place / "a/b/c")
    assert where(make_directory_in(root, "/")) == str(place)


def test_a_missing_file_is_made_with_its_directories_and_an_existing_one_is_left(
    root: int, place: Path, way: str
) -> None:
    assert where(make_file_in(root, "/new/dir/file", 0o600)) == str(place / "new/dir/file")
    assert (place / "new/dir/file").read_bytes() == b""
    assert stat.S_IMODE((place / "new/dir/file").stat().st_mode) == 0o600
    assert where(make_file_in(root, "etc/passwd")) == str(place / "etc/passwd")
    assert (place / "etc/passwd").read_text() == "inside"


@pytest.mark.parametrize("target", ["/made/x", "../../../../made/x", "made/x", "OUTSIDE/made/x"])
@pytest.mark.parametrize("make", [make_directory_in, make_file_in])
def test_through_a_link_that_leads_nowhere_what_is_made_stays_inside(
    root: int, place: Path, outside: Path, way: str, make: object, target: str
) -> None:
    (place / "link").symlink_to(target.replace("OUTSIDE", str(outside)))
    made = where(make(root, "/link"))  # type: ignore[operator]
    assert made.startswith(f"{place}/")
    assert made.endswith("/made/x")
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]
    assert sorted(path.name for path in place.parent.iterdir()) == ["outside", "root", "secret"]


def test_below_a_link_that_leads_out_what_is_made_stays_inside(root: int, place: Path, outside: Path, way: str) -> None:
    (place / "mnt").symlink_to(outside)
    assert where(make_directory_in(root, "/mnt/deep/er")).startswith(f"{place}/")
    assert where(make_file_in(root, "/mnt/deep/file")).startswith(f"{place}/")
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]


@pytest.mark.parametrize("make", [make_directory_in, make_file_in])
def test_what_cannot_be_made_is_told(root: int, place: Path, way: str, make: object) -> None:
    (place / "file").write_text("")
    (place / "odd").symlink_to("missing/..")
    assert number(lambda: make(root, "file/x")) == errno.ENOTDIR  # type: ignore[operator]
    assert number(lambda: make(root, "new/..")) == errno.EINVAL  # type: ignore[operator]
    assert number(lambda: make(root, "odd")) == errno.EINVAL  # type: ignore[operator]


def test_a_directory_that_somebody_swaps_for_a_link_while_it_is_made_is_not_followed(
    root: int, place: Path, outside: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.mkdir

    def swapped(name: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        real(name, mode, dir_fd=dir_fd)
        os.rmdir(name, dir_fd=dir_fd)
        os.symlink(outside, name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", swapped)
    assert number(lambda: make_directory_in(root, "new/below")) == errno.ENOTDIR
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]


def test_a_directory_that_another_makes_at_the_same_time_is_taken(
    root: int, place: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.mkdir

    def late(name: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        real(name, mode, dir_fd=dir_fd)
        raise FileExistsError(errno.EEXIST, "it was there first")

    monkeypatch.setattr(os, "mkdir", late)
    assert where(make_directory_in(root, "a/b")) == str(place / "a/b")


def test_a_component_that_is_swapped_for_a_link_after_it_was_seen_is_not_followed_by_the_walk(
    root: int, place: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openat2, "_missing", True)
    (place / "dir").mkdir()
    real = openat2._read_link

    def swapping(dir_fd: int, name: str) -> str | None:
        target = real(dir_fd, name)
        if name == "dir" and target is None:
            (place / "dir").rmdir()
            (place / "dir").symlink_to(outside)
        return target

    monkeypatch.setattr(openat2, "_read_link", swapping)
    assert number(lambda: open_in(root, "dir/secret")) == errno.ENOTDIR


def test_a_last_component_that_is_swapped_for_a_link_after_it_was_seen_is_not_followed_by_the_walk(
    root: int, place: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openat2, "_missing", True)
    real = openat2._read_link

    def swapping(dir_fd: int, name: str) -> str | None:
        target = real(dir_fd, name)
        if name == "passwd":
            (place / "etc/passwd").unlink()
            (place / "etc/passwd").symlink_to(outside / "secret")
        return target

    monkeypatch.setattr(openat2, "_read_link", swapping)
    assert number(lambda: open_in(root, "etc/passwd", os.O_RDONLY)) == errno.ELOOP


def test_a_directory_moved_out_while_it_is_walked_does_not_lead_above_the_root(
    root: int, place: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openat2, "_missing", True)
    (place / "a/b").mkdir(parents=True)
    real = openat2._read_link

    def moving(dir_fd: int, name: str) -> str | None:
        if name == "b":
            (place / "a").rename(outside / "a")
        return real(dir_fd, name)

    monkeypatch.setattr(openat2, "_read_link", moving)
    assert number(lambda: open_in(root, "a/b/../../secret")) == errno.ENOENT


parts = st.sampled_from(["a", "b", "l", "m", "..", ".", "", "f", "none"])
paths = st.lists(parts, min_size=1, max_size=7).map("/".join)


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=paths, one=paths, other=paths)
def test_the_walk_finds_what_the_kernel_finds(
    path: str, one: str, other: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path_factory.mktemp("world") / "root"
    (place / "a/b").mkdir(parents=True)
    (place / "a/f").write_text("")
    (place / "l").symlink_to(one or "/")
    (place / "a/m").symlink_to(other or "/")
    root = os.open(place, os.O_PATH)
    found = []
    try:
        for missing in (False, True):
            monkeypatch.setattr(openat2, "_missing", missing)
            try:
                found.append(where(open_in(root, path or "/")))
            except OSError as failure:
                found.append(errno.errorcode[failure.errno or 0])
    finally:
        os.close(root)
    kernel, walk = found
    if kernel == "ENOTDIR" and walk.startswith("/"):
        assert walk.endswith("/f")  # a slash or a dot after a file's name: the walk does not mind
    else:
        assert walk == kernel


def test_a_descriptor_knows_whether_it_is_a_directory(root: int) -> None:
    assert is_directory(root)
    fd = open_in(root, "etc/passwd")
    assert not is_directory(fd)
    os.close(fd)


# --- without links at all


def test_a_plain_path_has_no_link_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real/dir").mkdir(parents=True)
    (tmp_path / "real/file").touch()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real/link").symlink_to("/etc")
    root = os.open(tmp_path, os.O_PATH)
    for missing in (False, True):
        monkeypatch.setattr(openat2, "_missing", missing)
        for path in ("/real/dir", "real/file", "/real/../real/dir"):
            os.close(openat2.open_plain_in(root, path))
        for path in ("/link", "/link/dir", "/real/link", "/real/link/passwd"):
            with pytest.raises(OSError) as caught:
                os.close(openat2.open_plain_in(root, path))
            assert caught.value.errno == errno.ELOOP, path
        with pytest.raises(FileNotFoundError):
            openat2.open_plain_in(root, "/real/none")
        os.close(openat2.make_plain_directory_in(root, f"/real/new{missing}/deeper"))
        assert (tmp_path / f"real/new{missing}/deeper").is_dir()
        for path in ("/link/new", "/real/link", "/real/link/x"):
            with pytest.raises(OSError) as caught:
                openat2.make_plain_directory_in(root, path)
            assert caught.value.errno == errno.ELOOP, path
        with pytest.raises(NotADirectoryError):
            openat2.make_plain_directory_in(root, "/real/file")
    os.close(root)
