"""The program `jubako`, which the installed command runs as `python -I -S .../jubako/__main__.py`.

Without `site` the interpreter starts in half the time, and then knows the standard library only. So the directory that
holds this package goes to the end of the path, where `site` would have put it; that is where pip puts what we depend on
too. Libraries that lie elsewhere (a `--user` installation over a distribution's packages) are found by a late `site`.

This file is short because a program's own file is compiled at every start.
"""

import _signal
import posix
import sys


class _LateSite:
    """Runs `site` when a top-level module is missing for the first time, and looks once more."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):  # type: ignore[no-untyped-def]
        if path is not None:
            return None
        sys.meta_path.remove(cls)
        import site

        known = sys.path[:]
        site.main()
        sys.path[:] = [*known, *(entry for entry in sys.path if entry not in known)]
        for finder in sys.meta_path:
            found = finder.find_spec(name, path, target)
            if found is not None:
                return found
        return None


def _find_package() -> None:
    """Make this package importable where no `site` has run."""
    if sys.flags.no_site:
        sys.path.append(__file__.rpartition("/")[0].rpartition("/")[0] or "/")
        sys.meta_path.append(_LateSite)


def _end_at_an_interrupt() -> None:
    """Until `main` listens, Ctrl-C ends the program as it ends every other, without the tale of what was imported."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


def _fill_streams() -> None:
    """A standard stream that is closed becomes the null device, or the next file opened would get its number."""
    for number in range(3):
        try:
            posix.fstat(number)
        except OSError:
            posix.set_inheritable(posix.open("/dev/null", posix.O_RDWR), True)


if __name__ == "__main__":
    _end_at_an_interrupt()
    _fill_streams()
    _find_package()
    if sys.flags.no_site and sys.argv[1:2] in (["run"], ["oci"], ["rootless"]):
        from jubako.startpack import start

        start()
    else:
        from jubako.cli.main import entry

        entry()
