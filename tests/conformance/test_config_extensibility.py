"""config.md, "Annotations", "Extensibility" and "Valid values": what is ignored, and what is refused with its place."""

from __future__ import annotations

from typing import Any

import pytest

from world.bundle import Bundle
from world.rule import rule
from world.runtime import Runtime

WRONG: tuple[tuple[str, object], ...] = (
    ("ociVersion", 1),
    ("process", []),
    ("process.args", "sh"),
    ("process.args[0]", 5),
    ("process.cwd", 5),
    ("process.env", {"A": "b"}),
    ("process.env[0]", 1),
    ("process.terminal", "yes"),
    ("process.user", "root"),
    ("process.user.additionalGids", 5),
    ("process.user.umask", "022"),
    ("process.noNewPrivileges", 1),
    ("process.capabilities", ["CAP_KILL"]),
    ("process.capabilities.bounding", "CAP_KILL"),
    ("process.rlimits", {}),
    ("process.rlimits[0].soft", -1),
    ("process.rlimits[0].hard", "unlimited"),
    ("root", "rootfs"),
    ("root.path", 5),
    ("root.readonly", "true"),
    ("hostname", 5),
    ("mounts", {}),
    ("mounts[0].destination", None),
    ("mounts[0].options", "ro"),
    ("hooks", []),
    ("annotations", []),
    ("linux", []),
    ("linux.namespaces", ["pid"]),
    ("linux.namespaces[0].type", 5),
    ("linux.maskedPaths", "/proc"),
    ("linux.readonlyPaths[0]", 5),
    ("linux.uidMappings", [[0, 0, 1]]),
    ("linux.sysctl", []),
    ("linux.resources", []),
    ("linux.devices", {}),
    ("linux.seccomp", []),
    ("linux.cgroupsPath", 5),
)


def put(config: dict[str, Any], path: str, value: object) -> None:
    """Set the value at a JSON path such as `process.args[0]`."""
    steps: list[str | int] = []
    for word in path.replace("]", "").split("."):
        name, *positions = word.split("[")
        steps += [name, *map(int, positions)]
    at: Any = config
    for step in steps[:-1]:
        at = at[step] if isinstance(step, int) else at.setdefault(step, {})
    at[steps[-1]] = value


@rule("config.md", "Extensibility", "MUST", "Unknown properties are ignored, wherever they are.")
def test_unknown_properties_are_ignored(runtime: Runtime, bundle: Bundle):
    extra: dict[str, Any] = {"unknownProperty": {"deep": [1, "two", None, {"three": 3.5}]}, "io.example": None}
    for section in (bundle.config, bundle.process, bundle.process["user"], bundle.linux, bundle.config["root"]):
        section.update(extra)
    for entry in (*bundle.mounts, *bundle.linux["namespaces"], *bundle.process["rlimits"]):
        entry.update(extra)
    bundle.config["windows"] = {"layerFolders": []}
    bundle.config["solaris"] = {"milestone": "svc:/milestone/container:default"}
    bundle.config["vm"] = {"kernel": {"path": "/kernel"}}
    assert runtime.says(bundle, "echo here") == "here"


@rule("config.md", "Valid values", "MUST", "A known property of a wrong type is an error that names its JSON path.")
@pytest.mark.parametrize(("path", "value"), WRONG, ids=[path for path, _ in WRONG])
def test_a_wrong_type_is_refused(runtime: Runtime, bundle: Bundle, path: str, value: object):
    put(bundle.config, path, value)
    text = runtime.refuses(bundle)
    assert path in text
    assert "Traceback" not in text


@rule("config.md", "Valid values", "MUST", "What is no JSON object is refused.")
@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"ociVersion": "1.0.2",}', "\x00", "{} {}"], ids=repr)
def test_what_is_no_configuration(runtime: Runtime, bundle: Bundle, text: str):
    (bundle.path / "config.json").write_text(text)
    result = runtime("create", "--bundle", bundle.path, "jubako-test-bad")
    assert result.exit_code != 0
    assert "config.json" in result.stderr
    assert "Traceback" not in result.stderr
    assert runtime("list", "-q").lines == []


@rule("config.md", "Annotations", "MUST", "Keys are not empty, values are strings.")
@pytest.mark.parametrize("given", [{"": "value"}, {"key": 5}, {"key": None}, {"key": {}}], ids=str)
def test_annotations_that_cannot_be(runtime: Runtime, bundle: Bundle, given: dict[str, object]):
    bundle.config["annotations"] = given
    assert "annotations" in runtime.refuses(bundle)


@rule("config.md", "Annotations", "MUST", "Unknown keys are ignored like unknown properties; values may be empty.")
def test_unknown_annotations(runtime: Runtime, bundle: Bundle):
    bundle.config["annotations"] = {"org.opencontainers.nothing": "x", "com.example": "", "no-domain": "y"}
    assert runtime.says(bundle, "echo here") == "here"
