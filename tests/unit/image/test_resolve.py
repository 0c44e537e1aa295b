"""Names and ids on the command line find the image, or say what is near; no lock, two small files."""

from __future__ import annotations

from pathlib import Path

import pytest

from jubako import jsontext
from jubako.errors import JubakoError, NotFoundError, UsageError
from jubako.image.model import Image, ImageConfig, config_from, config_to
from jubako.image.resolve import resolve
from jubako.paths import Paths

FIRST, SECOND = "ab" * 32, "ab12" + "cd" * 30
DIGEST = "sha256:" + "9" * 64
CONFIG = ImageConfig(env=("A=1",), cmd=None, entrypoint=(), labels=(("k", "v"),), volumes=("/data",), user="5")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    images = tmp_path / "images"
    images.mkdir()
    for number, identity in enumerate((FIRST, SECOND)):
        document = {
            "id": identity, "config": config_to(CONFIG), "architecture": "amd64", "os": "linux", "variant": "",
            "created": "2024-01-01T00:00:00Z", "size": 5, "digest": DIGEST if number else "",
            "layers": ["1" * 64, "2" * 64, "3" * 64], "visible": ["2" * 64, "3" * 64],
        }  # fmt: skip
        (images / f"{identity}.json").write_text(jsontext.dumps(document))
    names = {
        "docker.io/library/busybox:latest": FIRST, "docker.io/library/busybox:1.36": FIRST, "quay.io/a/b:1": SECOND,
        "docker.io/library/ab12:latest": FIRST,
    }  # fmt: skip
    (images / "names.json").write_text(jsontext.dumps(names))
    return Paths(str(tmp_path), str(tmp_path), str(tmp_path))


def test_a_run_learns_all_that_it_needs(paths: Paths) -> None:
    assert resolve(paths, "quay.io/a/b:1") == Image(
        id="sha256:" + SECOND,
        names=("quay.io/a/b:1",),
        config=CONFIG,
        layers=(f"{paths.data}/layers/{'2' * 64}/fs", f"{paths.data}/layers/{'3' * 64}/fs"),
        architecture="amd64",
        os="linux",
        created="2024-01-01T00:00:00Z",
        size=5,
        digest=DIGEST,
    )


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        ("busybox", FIRST), ("docker.io/busybox:1.36", FIRST), (FIRST, FIRST), ("sha256:" + SECOND, SECOND),
        ("abab", FIRST), ("sha256:ab12", SECOND), ("ab12", FIRST), ("ab12c", SECOND), (f"quay.io/a/b@{DIGEST}", SECOND),
    ],
)  # fmt: skip
def test_a_name_wins_over_an_id_that_looks_alike(paths: Paths, name: str, identity: str) -> None:
    assert resolve(paths, name).id == "sha256:" + identity


@pytest.mark.parametrize("name", ["nothing", "busybox:2", "ffff", "0" * 64, "sha256:ffff", f"busybox@{DIGEST}"])
def test_an_unknown_image_comes_with_the_ways_to_get_one(paths: Paths, name: str) -> None:
    with pytest.raises(NotFoundError, match="no such image") as caught:
        resolve(paths, name)
    assert "jubako load" in caught.value.hint
    assert "jubako import" in caught.value.hint
    assert caught.value.exit_code == 125


@pytest.mark.parametrize(
    ("name", "near"), [("busibox", "busybox:"), ("b:1", "quay.io/a/b:1"), ("busybox:9", "busybox:1.36")]
)
def test_a_slip_of_the_pen_is_recognised(paths: Paths, name: str, near: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        resolve(paths, name)
    assert caught.value.hint.startswith("did you mean ")
    assert near in caught.value.hint.splitlines()[0]


def test_an_ambiguous_prefix_is_refused(paths: Paths) -> None:
    with pytest.raises(UsageError, match="2 images begin so"):
        resolve(paths, "ab")


@pytest.mark.parametrize("name", ["Busybox", "", "sha256:xyz", "a b"])
def test_what_can_be_no_image_is_a_usage_error(paths: Paths, name: str) -> None:
    with pytest.raises(UsageError):
        resolve(paths, name)


def test_without_a_store_there_is_no_image_but_a_hint(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such image") as caught:
        resolve(Paths(str(tmp_path / "none"), "", ""), "busybox")
    assert "host" in caught.value.hint


def test_a_damaged_store_is_said_to_be_damaged(paths: Paths) -> None:
    Path(paths.data, "images", "names.json").write_text("{")
    with pytest.raises(JubakoError, match="not JSON"):
        resolve(paths, "busybox")


def test_a_config_is_the_same_after_it_was_kept() -> None:
    for config in (CONFIG, ImageConfig(), ImageConfig(cmd=(), entrypoint=("a", "b"))):
        assert config_from(jsontext.loads(jsontext.dumps(config_to(config)))) == config
