"""Dockerfile instructions that change an image's configuration: `--change` of import, as docker and podman take it.

Syntax: Dockerfile reference, and podman-import(1), which also accepts `CMD=/bin/sh`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jubako import jsontext
from jubako.errors import UsageError


def apply_changes(changes: tuple[str, ...]) -> dict[str, Any]:
    """The `config` object (OCI image-spec) that `changes` describe. Raises `UsageError` naming the instruction."""
    config: dict[str, Any] = {}
    for change in changes:
        instruction, rest = _split(change)
        handler = _HANDLERS.get(instruction)
        if handler is None:
            known = ", ".join(sorted(_HANDLERS))
            raise UsageError("read --change", repr(change), reason=f"{instruction or 'nothing'} is not one of {known}")
        if not rest:
            raise UsageError("read --change", repr(change), reason=f"{instruction} needs a value")
        try:
            handler(config, rest)
        except ValueError as fault:
            raise UsageError("read --change", repr(change), reason=str(fault)) from None
    return config


def _split(change: str) -> tuple[str, str]:
    text = change.strip()
    end = next((at for at, character in enumerate(text) if character in " \t="), len(text))
    return text[:end].upper(), text[end:].lstrip(" \t=").strip()


def _command(key: str) -> Callable[[dict[str, Any], str], None]:
    def set_command(config: dict[str, Any], text: str) -> None:
        words = _json_list(text)
        config[key] = ["/bin/sh", "-c", text] if words is None else words

    return set_command


def _one(key: str) -> Callable[[dict[str, Any], str], None]:
    def set_one(config: dict[str, Any], text: str) -> None:
        config[key] = text

    return set_one


def _env(config: dict[str, Any], text: str) -> None:
    for key, value in _pairs(text):
        kept = [entry for entry in config.get("Env", []) if not entry.startswith(key + "=")]
        config["Env"] = [*kept, f"{key}={value}"]


def _labels(config: dict[str, Any], text: str) -> None:
    config.setdefault("Labels", {}).update(_pairs(text))


def _volumes(config: dict[str, Any], text: str) -> None:
    paths = _json_list(text) or text.split()
    for path in paths:
        if not path.startswith("/"):
            raise ValueError(f"{path!r} is not an absolute path")
    config.setdefault("Volumes", {}).update((path, {}) for path in paths)


def _ports(config: dict[str, Any], text: str) -> None:
    for word in text.split():
        port, _, protocol = word.partition("/")
        if not port.isdigit() or not 0 < int(port) < 65536 or protocol not in ("", "tcp", "udp", "sctp"):
            raise ValueError(f"{word!r} is not PORT or PORT/PROTOCOL")
        config.setdefault("ExposedPorts", {})[f"{port}/{protocol or 'tcp'}"] = {}


def _work_dir(config: dict[str, Any], text: str) -> None:
    if not text.startswith("/"):
        raise ValueError(f"{text!r} is not an absolute path")
    config["WorkingDir"] = text


def _pairs(text: str) -> list[tuple[str, str]]:
    """`A=1 B="two words"`, or the old form `A the rest of the line`."""
    import shlex

    first, _, rest = text.partition(" ")
    if "=" not in first:
        if not rest:
            raise ValueError("write NAME=VALUE")
        return [(first, rest.strip())]
    pairs = []
    for word in shlex.split(text):
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ValueError(f"{word!r} is not NAME=VALUE")
        pairs.append((key, value))
    return pairs


def _json_list(text: str) -> list[str] | None:
    """The exec form, `["a", "b"]`; None for the shell form."""
    if not text.startswith("["):
        return None
    try:
        words = jsontext.loads(text)
    except ValueError:
        return None
    return words if isinstance(words, list) and all(isinstance(word, str) for word in words) else None


_HANDLERS: dict[str, Callable[[dict[str, Any], str], None]] = {
    "CMD": _command("Cmd"),
    "ENTRYPOINT": _command("Entrypoint"),
    "ENV": _env,
    "EXPOSE": _ports,
    "LABEL": _labels,
    "STOPSIGNAL": _one("StopSignal"),
    "USER": _one("User"),
    "VOLUME": _volumes,
    "WORKDIR": _work_dir,
}
