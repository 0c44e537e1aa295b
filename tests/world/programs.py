"""Which programs of the system a test needs.

What `./dev test` could not install is named in JUBAKO_TEST_LOST and its tests are skipped, visibly; a program that is
missing for any other reason is a broken set-up and fails.
"""

from __future__ import annotations

import os
import shutil

import pytest

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=_SYSTEM_PATH)


def require(name: str, package: str = "") -> str:
    """The path of the program `name`, which the package `package` (default: the same name) has."""
    found = find(name)
    if found is not None:
        return found
    if "CI" not in os.environ or (package or name) in os.environ.get("JUBAKO_TEST_LOST", "").split():
        pytest.skip(f"{name} is not installed (package {package or name})")
    pytest.fail(f"{name} is not installed: add its package to ./dev")
