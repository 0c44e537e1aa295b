"""Which steps a launcher's child does before it has a request."""

from __future__ import annotations

from jubako.plan.steps.identity import LimitCapabilities
from jubako.plan.steps.namespaces import TakeRootIds
from jubako.plan.steps.process import BeginSession, NewSessionKeyring
from jubako.plan.steps.program import CloseDescriptors
from jubako.plan.steps.rootfs import BindRoot, DetachMounts, OpenPaths, OpenRoot
from jubako.sandbox.jobs import divide_steps
from jubako.sandbox.scratch import OpenMasks

SESSION, ROOT_IDS, DETACH, MASKS = BeginSession(), TakeRootIds(False), DetachMounts(), OpenMasks("/empty")
BIND, OPEN, CLOSE = BindRoot("/r", "/stage"), OpenRoot("/stage"), CloseDescriptors()
KEYRING, LIMIT = NewSessionKeyring(), LimitCapabilities(())


def test_nothing_that_looks_at_the_hosts_files_is_done_early() -> None:
    early, late = divide_steps((SESSION, ROOT_IDS, DETACH, MASKS, BIND, OPEN, KEYRING, CLOSE, LIMIT))
    assert early == (SESSION, ROOT_IDS, DETACH, MASKS, KEYRING, LIMIT)
    assert late == (BIND, OPEN, CLOSE)


def test_where_paths_must_be_opened_first_all_waits_for_the_request() -> None:
    paths = OpenPaths(("/home/user/data",))
    early, late = divide_steps((SESSION, paths, ROOT_IDS, DETACH, MASKS, BIND, KEYRING, CLOSE, LIMIT))
    assert early == (SESSION,)
    assert late == (paths, ROOT_IDS, DETACH, MASKS, BIND, KEYRING, CLOSE, LIMIT)
