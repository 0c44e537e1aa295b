"""Session keyrings: session-keyring(7), keyctl(2)."""

from __future__ import annotations

from jubako.linux.libc import syscall

KEYCTL_JOIN_SESSION_KEYRING = 1


def join_new_session_keyring() -> None:
    """Give the caller an anonymous session keyring of its own (a named one would run into the user's quota)."""
    syscall("keyctl", KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0, subject="KEYCTL_JOIN_SESSION_KEYRING")
