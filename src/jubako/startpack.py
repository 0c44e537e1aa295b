"""The start pack: the code of all modules that a command loads, in one file of jubako's cache.

There is one for `jubako run`, one for `jubako rootless`, and for the OCI runtime three: for what makes containers, for
`exec`, and for the rest.

Finding, opening and reading eighty small files costs a start more than all that it then does before the container is
there; one file costs a third of that. The first run without a valid pack writes one, the others read it. It is a cache:
a module that is not in it is imported as ever, and so is everything when the file is missing, damaged or of another
interpreter, or when a source has another time or size than it says (what Python asks of its own .pyc files). Line
numbers and docstrings are left out, a third of it all: who looks for a fault (`JUBAKO_DEBUG`, `--debug`) starts without
the pack.

Code is loaded, so the file and its directory must be this user's, and nobody else may write them.
"""

from __future__ import annotations

import gc
import marshal
import os
import sys
from _frozen_importlib_external import MAGIC_NUMBER, SourceFileLoader, spec_from_file_location

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import CodeType
    from typing import NoReturn

_PACKAGE = os.path.dirname(os.path.abspath(__file__))
_HEADER = b"jubako start pack 2\n" + MAGIC_NUMBER
RUN, ROOTLESS = "run", "rootless"
OCI_CREATE, OCI_EXEC, OCI_START = "oci-create", "oci-exec", "oci-start"
_LAST = {
    RUN: "jubako.engine.run",
    ROOTLESS: "jubako.rootless.start",
    OCI_CREATE: "jubako.oci.running",
    OCI_EXEC: "jubako.oci.exec",
    OCI_START: "jubako.oci.state",
}
"""The modules of a list up to this one are needed in any case, and before the first process is forked."""
_ALSO = {
    OCI_CREATE: (
        "jubako.linux.bpf_devices", "jubako.oci.devices", "jubako.plan.steps.cgroups", "jubako.plan.steps.joining",
        "jubako.linux.fsopen", "jubako.linux.procfs", "jubako.linux.lsm", "jubako.linux.ioprio",
        "jubako.linux.mempolicy", "jubako.linux.personality", "jubako.linux.sched", "jubako.plan.steps.attributes",
    ),
}  # fmt: skip
"""What the lists do not have, since they are an ordinary user's: what root's containers and engines' documents need."""
_OF_FUNCTIONS = 0x3  # CO_OPTIMIZED | CO_NEWLOCALS
_CO_HAS_DOCSTRING = 0x4000000
_OCI_COMMANDS = {
    **dict.fromkeys(("create", "run", "restore"), OCI_CREATE),
    "exec": OCI_EXEC,
    **dict.fromkeys(("start", "state", "kill", "delete"), OCI_START),
}


class Finder:
    """Finds the modules of the pack, before anything else is asked."""

    def __init__(self, codes: dict[str, tuple[str, CodeType]]) -> None:
        self.codes = codes

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """The module's spec, as an import from its file would have it."""
        found = self.codes.pop(name, None)
        if found is None:
            return None
        file, code = found
        inside = [os.path.dirname(file)] if file.endswith("/__init__.py") else None
        return spec_from_file_location(name, file, loader=_Loader(name, file, code), submodule_search_locations=inside)


class _Loader(SourceFileLoader):
    """Has the code already; all else (source for a traceback, data) is that of the file."""

    def __init__(self, name: str, file: str, code: CodeType) -> None:
        super().__init__(name, file)
        self.code = code

    def get_code(self, fullname: str) -> CodeType | None:
        return self.code if fullname == self.name else super().get_code(fullname)


def start() -> NoReturn:
    """The installed program, with the pack; without one it is made when the command is done."""
    gc.set_threshold(100_000, 10, 10)  # no cycles are looked for before there are enough objects to be worth the time
    kind = kind_of(sys.argv[1:])
    debug = bool(os.environ.get("JUBAKO_DEBUG")) or "--debug" in sys.argv[1:5]
    pack = "" if debug or not kind else find_pack(kind)
    used = not pack or use(pack, _LAST[kind]) or _explains(sys.argv[1:])
    from jubako.cli.main import entry

    entry(None if used else lambda: keep(pack, kind))


def kind_of(words: list[str]) -> str:
    """Which pack the command line has; empty for none. A flag's value that is a command's name only costs time."""
    if words[:1] != ["oci"]:
        return ROOTLESS if words[:1] == ["rootless"] else RUN
    return next((_OCI_COMMANDS[word] for word in words[1:] if word in _OCI_COMMANDS), "")


def _explains(words: list[str]) -> bool:
    """Whether the command promises to write nothing."""
    return words[:1] == ["explain"] or (words[:1] == ["rootless"] and "--explain" in words)


def list_of(kind: str) -> str:
    """The file that lists the modules of a pack."""
    return f"{_PACKAGE}/data/{'start' if kind == RUN else kind}-path.txt"


def find_pack(kind: str = RUN) -> str:
    """Where the pack of this installation and interpreter is; empty where there is no home. Asked at the start, since a
    command may become root of a namespace later. `jubako.paths` says the same of the cache, for more imports."""
    if os.geteuid() == 0 and os.access("/var/lib", os.W_OK):
        data = "/var/lib"
    else:
        data = os.environ.get("XDG_DATA_HOME") or os.environ.get("HOME", "") + "/.local/share"
    if not data.startswith("/") or data == "/.local/share":
        return ""
    name = f"{_PACKAGE.replace('/', '%')}.{sys.implementation.cache_tag}"
    return f"{data}/jubako/cache/start/{name}{'' if kind == RUN else '.' + kind}"


def use(pack: str, last: str = "") -> bool:
    """Import from this pack from now on, the modules up to `last` at once; False if it is missing or not as new as the
    sources."""
    try:
        data = _read(pack)
        if not data.startswith(_HEADER):
            return False
        modules = marshal.loads(memoryview(data)[len(_HEADER) :])
        codes = {}
        for name, file, mtime, size, code in modules:
            path = f"{_PACKAGE}/{file}"
            status = os.stat(path)
            if status.st_mtime_ns != mtime or status.st_size != size:
                return False
            codes[name] = (path, code)
    except (OSError, ValueError, EOFError, TypeError):
        return False
    sys.meta_path.insert(0, Finder(codes))
    _load(codes, last)
    return True


def _load(codes: dict[str, tuple[str, CodeType]], last: str) -> None:
    """Make the modules that are needed in any case, in the order in which imports would have completed them: the import
    system would take as long for finding each as most take to run."""
    modules, kind = sys.modules, type(sys)
    for name in tuple(codes):
        if name not in modules:
            file, code = codes.pop(name)
            module = modules[name] = kind(name)
            inside = module.__dict__
            inside["__file__"] = file
            package, _dot, own_name = name.rpartition(".")
            inside["__package__"] = package
            if file.endswith("/__init__.py"):
                inside["__package__"], inside["__path__"] = name, [os.path.dirname(file)]
            try:
                exec(code, inside)
            except Exception:  # whoever imports it in the ordinary way will say what is wrong
                del modules[name]
                return
            setattr(modules[package], own_name, module)
        if name == last:
            return


def keep(pack: str, kind: str = RUN) -> None:
    """Write the pack, whole; where that cannot be, the next start is as slow as this one."""
    try:
        with open(list_of(kind)) as file:
            names = [name for name in file.read().split() if name.partition(".")[0] == "jubako"]
        wanted = dict.fromkeys((*names, *_ALSO.get(kind, ())))
        data = _HEADER + marshal.dumps(tuple(_module(name) for name in wanted if name not in (__name__, "jubako")))
        directory = os.path.dirname(pack)
        os.makedirs(directory, 0o700, exist_ok=True)
        _check(os.stat(directory))
        temporary = f"{pack}.{os.getpid()}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file_:
                file_.write(data)
            os.rename(temporary, pack)
        except BaseException:
            os.unlink(temporary)
            raise
    except (OSError, ValueError, ImportError, SyntaxError):
        return


def _module(name: str) -> tuple[str, str, int, int, CodeType]:
    """A module as the pack has it: its name, its file below the package, that file's time and size, its code."""
    file = "/".join(name.split(".")[1:])
    file = file + "/__init__.py" if os.path.isdir(f"{_PACKAGE}/{file}") else file + ".py"
    status = os.stat(f"{_PACKAGE}/{file}")
    code = SourceFileLoader(name, f"{_PACKAGE}/{file}").get_code(name)
    if code is None:
        raise ImportError(name)
    return name, file, status.st_mtime_ns, status.st_size, _shortened(code)


def _shortened(code: CodeType) -> CodeType:
    """`code` without the table of its lines and the docstrings of its functions."""
    kind = type(code)
    constants = [_shortened(value) if isinstance(value, kind) else value for value in code.co_consts]
    if _has_docstring(code):
        constants[0] = None
    return code.replace(co_consts=tuple(constants), co_linetable=b"")


def _has_docstring(code: CodeType) -> bool:
    """Whether the first constant is a docstring: a flag says so from Python 3.13 on; before that, the first constant of
    a function (not of a lambda or a comprehension, whose names are in brackets) is no other string."""
    if code.co_flags & _OF_FUNCTIONS != _OF_FUNCTIONS or not code.co_consts or type(code.co_consts[0]) is not str:
        return False
    if code.co_name[:1] == "<":
        return False
    return sys.version_info < (3, 13) or bool(code.co_flags & _CO_HAS_DOCSTRING)


def _read(path: str) -> bytes:
    _check(os.stat(os.path.dirname(path)))
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        _check(status)
        return os.read(fd, status.st_size)
    finally:
        os.close(fd)


def _check(status: os.stat_result) -> None:
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError("not this user's alone")
