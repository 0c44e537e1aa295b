"""What this room needs of `ctypes`, straight from the C module below it.

The package `ctypes` makes sixty classes and imports `struct` and `types`, for which every start would pay more than
for its mounts. Where the C module is not as expected (another Python implementation), the package is used after all.
"""

from __future__ import annotations

__all__ = [
    "PyDLL",
    "Structure",
    "addressof",
    "byref",
    "c_char_p",
    "c_int",
    "c_long",
    "c_size_t",
    "c_uint",
    "c_uint32",
    "c_uint64",
    "c_ulong",
    "c_ushort",
    "c_void_p",
    "cast",
    "create_string_buffer",
    "get_errno",
    "memmove",
    "memset",
    "pythonapi",
    "sizeof",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import (
        PyDLL,
        Structure,
        addressof,
        byref,
        c_char_p,
        c_int,
        c_long,
        c_size_t,
        c_uint,
        c_uint32,
        c_uint64,
        c_ulong,
        c_ushort,
        c_void_p,
        cast,
        create_string_buffer,
        get_errno,
        memmove,
        memset,
        pythonapi,
        sizeof,
    )
else:
    try:
        from _ctypes import (
            FUNCFLAG_CDECL,
            FUNCFLAG_PYTHONAPI,
            FUNCFLAG_USE_ERRNO,
            CFuncPtr,
            Structure,
            _cast_addr,
            _memmove_addr,
            _memset_addr,
            _SimpleCData,
            addressof,
            byref,
            dlopen,
            get_errno,
            sizeof,
        )
    except ImportError:
        from ctypes import (
            PyDLL,
            Structure,
            addressof,
            byref,
            c_char_p,
            c_int,
            c_long,
            c_size_t,
            c_uint,
            c_uint32,
            c_uint64,
            c_ulong,
            c_ushort,
            c_void_p,
            cast,
            create_string_buffer,
            get_errno,
            memmove,
            memset,
            pythonapi,
            sizeof,
        )
    else:

        class c_char(_SimpleCData):
            _type_ = "c"

        class c_char_p(_SimpleCData):
            _type_ = "z"

        class c_void_p(_SimpleCData):
            _type_ = "P"

        class c_ushort(_SimpleCData):
            _type_ = "H"

        class c_int(_SimpleCData):
            _type_ = "i"

        class c_uint(_SimpleCData):
            _type_ = "I"

        class c_long(_SimpleCData):
            _type_ = "l"

        class c_ulong(_SimpleCData):
            _type_ = "L"

        class c_uint64(_SimpleCData):
            _type_ = "Q"

        class py_object(_SimpleCData):
            _type_ = "O"

        c_uint32 = c_uint
        c_size_t = c_ulong  # so on every Linux

        class PyDLL:
            """The functions of a loaded library, called with the interpreter's lock held; as in `ctypes`."""

            def __init__(self, name: str | None, use_errno: bool = False) -> None:
                class Function(CFuncPtr):
                    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_PYTHONAPI | (FUNCFLAG_USE_ERRNO if use_errno else 0)
                    _restype_ = c_int

                self._name = name
                self._handle = dlopen(name, 0)
                self._function = Function

            def __getattr__(self, name: str) -> object:
                if name.startswith("__"):
                    raise AttributeError(name)
                function = self._function((name, self))
                function.__name__ = name
                setattr(self, name, function)
                return function

        def _at(address, result, *arguments):
            class Function(CFuncPtr):
                _flags_ = FUNCFLAG_CDECL | FUNCFLAG_PYTHONAPI
                _restype_ = result
                _argtypes_ = arguments

            return Function(address)

        pythonapi = PyDLL(None)
        memmove = _at(_memmove_addr, c_void_p, c_void_p, c_void_p, c_size_t)
        memset = _at(_memset_addr, c_void_p, c_void_p, c_int, c_size_t)
        _cast = _at(_cast_addr, py_object, c_void_p, py_object, py_object)

        def cast(value, kind):
            return _cast(value, value, kind)

        def create_string_buffer(value, size):
            buffer = (c_char * size)()
            buffer.value = value
            return buffer
