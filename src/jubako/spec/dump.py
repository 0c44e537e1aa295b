"""A `Spec` becomes a JSON document in OCI's spelling, with nothing in it that was not said.

`load(dump(spec)) == spec` for every valid spec; what equals its default is left out.
"""

from __future__ import annotations

from jubako.spec import document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.spec.resources import Resources
    from jubako.spec.types import Process, Spec


def dump(spec: Spec) -> dict[str, Any]:
    """The config.json of `spec`, ready for `jsontext.dumps`."""
    return document.SPEC.write(spec)


def dump_process(process: Process) -> dict[str, Any]:
    """The process alone, as `exec --process` takes it."""
    return document.PROCESS.write(process)


def dump_resources(resources: Resources) -> dict[str, Any]:
    """The limits alone, as `update --resources` takes them."""
    return document.RESOURCES.write(resources)
