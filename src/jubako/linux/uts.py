"""Host and domain name of the UTS namespace: sethostname(2), setdomainname(2)."""

from __future__ import annotations

import os

from jubako.linux import foreign as ctypes
from jubako.linux.libc import check, libc


def set_host_name(name: str) -> None:
    """sethostname(2): at most 64 bytes."""
    raw = os.fsencode(name)
    check(libc.sethostname(raw, ctypes.c_size_t(len(raw))), "sethostname", name)


def set_domain_name(name: str) -> None:
    """setdomainname(2), the NIS domain: at most 64 bytes."""
    raw = os.fsencode(name)
    check(libc.setdomainname(raw, ctypes.c_size_t(len(raw))), "setdomainname", name)
