"""An image's configuration document, checked field by field before anything believes it.

OCI image-spec 1.1, config.md; docker's own is the same with more fields. It comes from strangers, so each value that
jubako uses must have its type; what is unknown is left alone.
"""

from __future__ import annotations

from typing import Any

from jubako import jsontext
from jubako.errors import JubakoError
from jubako.image.model import ImageConfig
from jubako.image.reference import is_digest
from jubako.record import record


@record
class ConfigDocument:
    """What is read out of a configuration; `diff_ids` are hexadecimal, lowest layer first."""

    config: ImageConfig
    architecture: str
    os: str
    variant: str
    created: str
    author: str
    comment: str
    diff_ids: tuple[str, ...]
    history: tuple[tuple[str, str, str, bool], ...]


def parse_json(data: bytes, label: str, name: str) -> Any:
    """`data` as JSON; `label` and `name` say in messages where it came from."""
    try:
        return jsontext.loads(data)
    except ValueError as fault:
        raise JubakoError("read", label, reason=f"{name} is not JSON: {fault}", hint="the archive is damaged") from None


def read_config(data: bytes, label: str) -> ConfigDocument:
    """Parse and check an image's configuration. Raises `JubakoError` naming the field that is wrong."""
    document = parse_json(data, label, "the image's configuration")
    reader = _Reader(document, label)
    inner = reader.inner("config")
    rootfs = reader.inner("rootfs")
    diff_ids = rootfs.texts("diff_ids") or ()
    for diff_id in diff_ids:
        if not is_digest(diff_id):
            raise rootfs.wrong("diff_ids", "holds a digest that is not sha256")
    config = ImageConfig(
        env=inner.texts("Env") or (),
        cmd=inner.texts("Cmd"),
        entrypoint=inner.texts("Entrypoint"),
        working_dir=inner.text("WorkingDir"),
        user=inner.text("User"),
        stop_signal=inner.text("StopSignal"),
        labels=inner.pairs("Labels"),
        volumes=inner.keys("Volumes"),
        exposed_ports=inner.keys("ExposedPorts"),
    )
    return ConfigDocument(
        config=config,
        architecture=reader.text("architecture"),
        os=reader.text("os"),
        variant=reader.text("variant"),
        created=reader.text("created"),
        author=reader.text("author"),
        comment=reader.text("comment"),
        diff_ids=tuple(diff_id.removeprefix("sha256:") for diff_id in diff_ids),
        history=reader.history(),
    )


class _Reader:
    """Typed access to an object from outside; null and absent are the same, as in Go."""

    def __init__(self, document: Any, label: str, path: str = "") -> None:
        self._label = label
        self._path = path
        if not isinstance(document, dict):
            raise JubakoError(
                "read", label, reason=f"the image's configuration{path and ' at ' + path} is not an object"
            )
        self._document: dict[str, Any] = document

    def wrong(self, name: str, reason: str) -> JubakoError:
        where = f"{self._path}.{name}" if self._path else name
        return JubakoError("read", self._label, reason=f"the image's configuration is wrong: {where} {reason}")

    def inner(self, name: str) -> _Reader:
        value = self._document.get(name)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(name, "is not an object")
        return _Reader(value or {}, self._label, f"{self._path}.{name}" if self._path else name)

    def text(self, name: str) -> str:
        value = self._document.get(name)
        if value is None:
            return ""
        return self._checked(name, value)

    def texts(self, name: str) -> tuple[str, ...] | None:
        value = self._document.get(name)
        if value is None:
            return None
        if not isinstance(value, list):
            raise self.wrong(name, "is not a list")
        return tuple(self._checked(name, item) for item in value)

    def pairs(self, name: str) -> tuple[tuple[str, str], ...]:
        value = self._document.get(name) or {}
        if not isinstance(value, dict):
            raise self.wrong(name, "is not an object")
        return tuple((self._checked(name, key), self._checked(name, item)) for key, item in value.items())

    def keys(self, name: str) -> tuple[str, ...]:
        value = self._document.get(name) or {}
        if not isinstance(value, dict):
            raise self.wrong(name, "is not an object")
        return tuple(self._checked(name, key) for key in value)

    def history(self) -> tuple[tuple[str, str, str, bool], ...]:
        value = self._document.get("history") or []
        if not isinstance(value, list):
            raise self.wrong("history", "is not a list")
        entries = [_Reader(entry, self._label, "history") for entry in value]
        return tuple(
            (
                entry.text("created"),
                entry.text("created_by"),
                entry.text("comment"),
                entry._document.get("empty_layer") is True,
            )
            for entry in entries
        )

    def _checked(self, name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise self.wrong(name, f"holds {jsontext.dumps(value)[:40]}, which is not a string")
        if "\0" in value:
            raise self.wrong(name, "holds a zero character")
        return value
