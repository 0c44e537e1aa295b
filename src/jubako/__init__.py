"""Rootless Linux containers in Python: nothing trusted but the kernel.

    import jubako

    result = jubako.run(["id", "-u"])                 # a fresh container of the host's own system, read-only
    result.stdout, result.exit_code                   # ("0\\n", 0)

    with jubako.Sandbox(image="busybox", network="none", volumes={"./data": "/data:ro"}) as sandbox:
        sandbox.run(["wc", "-l", "/data/in.csv"], timeout=10, check=True)

`run` waits for a program and returns its `Result`; `start` returns a `Container` that runs beside the caller; a
`Sandbox` keeps options and a launcher of its own. A program that fails is a value; what goes wrong in jubako is a
`JubakoError` with the operation, its subject, the kernel's answer and a hint. Names are loaded at their first use.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.errors import (
        JubakoError,
        NotExecutableError,
        NotFoundError,
        ProgramNotFoundError,
        StepError,
        UsageError,
    )
    from jubako.sandbox.container import Container
    from jubako.sandbox.errors import ProgramError, TimeLimitError
    from jubako.sandbox.result import Result
    from jubako.sandbox.sandbox import Sandbox, run, start
    from jubako.sandbox.streams import DEVNULL, PIPE, STDOUT

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "Container",
    "JubakoError",
    "NotExecutableError",
    "NotFoundError",
    "ProgramError",
    "ProgramNotFoundError",
    "Result",
    "Sandbox",
    "StepError",
    "TimeLimitError",
    "UsageError",
    "__version__",
    "run",
    "start",
]

_HOMES = {
    "errors": (
        "JubakoError", "NotExecutableError", "NotFoundError", "ProgramNotFoundError", "StepError", "UsageError",
    ),
    "sandbox.container": ("Container",),
    "sandbox.errors": ("ProgramError", "TimeLimitError"),
    "sandbox.result": ("Result",),
    "sandbox.sandbox": ("Sandbox", "run", "start"),
    "sandbox.streams": ("DEVNULL", "PIPE", "STDOUT"),
}  # fmt: skip


def __getattr__(name: str) -> object:
    """Load a public name (PEP 562): `import jubako` alone costs nothing, also on the way to the command line."""
    for home, names in _HOMES.items():
        if name in names:
            module = __import__(f"jubako.{home}", fromlist=(name,))
            value: object = getattr(module, name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'jubako' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
