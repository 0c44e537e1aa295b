"""SHA-256 without `hashlib`, which loads all of OpenSSL: for names and checks of what a start reads from the cache.

The interpreter's own C module does the work; another Python implementation has the standard package.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING or sys.implementation.name != "cpython":
    from hashlib import sha256
elif sys.version_info >= (3, 12):
    from _sha2 import sha256
else:
    from _sha256 import sha256

__all__ = ["sha256"]
