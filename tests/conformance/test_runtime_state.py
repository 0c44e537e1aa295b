"""runtime.md, "State", and bundle.md: what `state` tells of a container, and what a bundle is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from world.bundle import Bundle
from world.rule import rule
from world.runtime import Runtime


@rule("runtime.md", "State", "MUST", "`ociVersion` is the version of the specification that the state complies with.")
@rule("runtime.md", "State", "MUST", "`id` is the container's id.")
@rule("runtime.md", "State", "MUST", "`bundle` is the absolute path of the bundle.")
def test_the_state_names_the_container(runtime: Runtime, bundle: Bundle):
    box = runtime.create(bundle)
    state = box.state
    assert re.fullmatch(r"1\.\d+\.\d+(-.*)?", state["ociVersion"])
    assert state["id"] == box.id
    assert state["bundle"] == str(bundle.path)


@rule("runtime.md", "State", "MUST", "`bundle` is absolute also where the caller named it relatively, or not at all.")
@pytest.mark.parametrize("flags", [("--bundle", "."), ("-b", "../{name}"), ()], ids=["dot", "up", "none"])
def test_the_bundle_is_told_absolutely(runtime: Runtime, bundle: Bundle, flags: tuple[str, ...]):
    bundle.sh("exit 0")
    bundle.write()
    box = runtime._box(bundle, None)
    words = [flag.format(name=bundle.path.name) for flag in flags]
    with open(box.out, "wb") as out:
        started = runtime.start("create", *words, box.id, cwd=bundle.path, stdout=out, stderr=out, stdin=None)
        assert started.wait(20) == 0, box.output
    assert Path(box.state["bundle"]) == bundle.path


@rule("runtime.md", "State", "MUST", "`status` is `created`, `running` or `stopped`, as the container is.")
@rule("runtime.md", "State", "MUST", "`pid` is the container's first process as the host sees it, when there is one.")
def test_the_state_tells_status_and_process(runtime: Runtime, bundle: Bundle):
    bundle.sh("echo ready; exec sleep 1000")
    box = runtime.create(bundle)
    created = box.state
    assert created["status"] == "created"
    assert "NSpid:\t{}\t1\n".format(created["pid"]) in Path(f"/proc/{created['pid']}/status").read_text()
    box.start()
    box.read_until("ready")
    running = box.state
    assert (running["status"], running["pid"]) == ("running", created["pid"])
    assert Path(f"/proc/{running['pid']}/cmdline").read_bytes() == b"sleep\x001000\x00"
    box.stop()
    stopped = box.state
    assert stopped["status"] == "stopped"
    assert stopped.get("pid", 0) in (0, running["pid"])


@rule("runtime.md", "State", "MUST", "`annotations` are those of the configuration.")
def test_the_state_has_the_annotations(runtime: Runtime, bundle: Bundle):
    given = {"com.example.key": "value", "empty": "", "ünïcode": '✓ "quoted"\n'}
    bundle.config["annotations"] = given
    assert runtime.create(bundle).state["annotations"] == given


@rule("runtime.md", "State", "MAY", "Without annotations the property is absent or an empty map.")
@pytest.mark.parametrize("given", [None, {}], ids=["absent", "empty"])
def test_the_state_without_annotations(runtime: Runtime, bundle: Bundle, given: dict[str, str] | None):
    if given is not None:
        bundle.config["annotations"] = given
    assert runtime.create(bundle).state.get("annotations") in (None, {})


@rule("command line", "state", "common", "Besides the specification's fields there are `rootfs`, `created`, `owner`.")
def test_the_state_has_the_fields_that_engines_read(runtime: Runtime, bundle: Bundle):
    state = runtime.create(bundle).state
    assert state["rootfs"] == str(bundle.rootfs)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", state["created"])
    assert isinstance(state["owner"], str)
    assert isinstance(state["pid"], int)


@rule("bundle.md", "Filesystem Bundle", "MUST", "The configuration is the file `config.json` at the bundle's top.")
def test_the_configuration_lies_at_the_top_of_the_bundle(runtime: Runtime, bundle: Bundle):
    bundle.write()
    (bundle.path / "config.json").rename(bundle.rootfs / "config.json")
    result = runtime("create", "--bundle", bundle.path, "jubako-test-nothing")
    assert result.exit_code != 0
    assert "config.json" in result.stderr


@rule("bundle.md", "Filesystem Bundle", "MUST", "The root file system is the directory that `root.path` names.")
def test_the_root_of_the_container_is_the_named_directory(runtime: Runtime, bundle: Bundle):
    bundle.rootfs.rename(bundle.path / "elsewhere")
    bundle.config["root"]["path"] = "elsewhere"
    assert runtime.says(bundle, "cat /test.txt") == "a file of the root file system"


@rule("runtime.md", "Scope of a Container", "MUST", "Who created a container can use all operations on it.")
def test_another_directory_of_state_knows_other_containers(
    runtime: Runtime, bundles: Callable[..., Bundle], place: Path
):
    box = runtime.create(bundles("one"))
    other = Runtime(runtime.account, runtime.cwd, runtime.prefix, root=place / "other")
    assert other("state", box.id).exit_code != 0
    assert other("list", "-q").lines == []
    assert runtime("list", "-q").lines == [box.id]
