"""Which capabilities a container's program gets: podman's default set, `--cap-add`, `--cap-drop`, the five OCI sets.

The rules are podman's (containers/common `MergeCapabilities`, and specgen's security options), which are docker's but
for the smaller default set and the refusal of contradictions. Pure: the host's highest capability is an argument.
"""

from __future__ import annotations

from jubako.errors import UsageError
from jubako.linux.caps import NAMES, NUMBERS
from jubako.record import replace
from jubako.spec.types import Capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_SETFCAP",
)
ALL = "ALL"


def bounding_set(
    add: Iterable[str] = (),
    drop: Iterable[str] = (),
    *,
    last_cap: int = len(NAMES) - 1,
    base: tuple[str, ...] = DEFAULT,
) -> tuple[str, ...]:
    """`base` with `--cap-add` and `--cap-drop` applied, by capability number.

    Names are accepted in any case and without `CAP_`; `ALL` adds what the kernel has (up to `last_cap`) or drops all
    but what is added by name. Raises `UsageError` for an unknown name, one that this kernel lacks, and one that is
    both added and dropped.
    """
    added = _names(add, "--cap-add", last_cap)
    dropped = _names(drop, "--cap-drop", last_cap)
    for name in added:
        if name in dropped:
            raise UsageError("use --cap-add", name, reason="it stands in --cap-drop too")
    if ALL in dropped:
        result = set(added)
    elif ALL in added:
        result = set(NAMES[: last_cap + 1]) - set(dropped)
    else:
        result = set(base) - set(dropped) | set(added)
    return tuple(sorted(result, key=NUMBERS.__getitem__))


def process_sets(bounding: tuple[str, ...], add: Iterable[str] = (), *, root: bool) -> Capabilities:
    """The five sets for a program that starts as the container's root, or as another user.

    Root gets the bounding set as permitted and effective. Anyone else gets only what was *added* by name, as ambient
    capabilities, since without them execve(2) would leave nothing. Inheritable stays empty for root (CVE-2022-24769).
    """
    if root:
        return Capabilities(bounding=bounding, effective=bounding, permitted=bounding)
    added = _names(add, "--cap-add", len(NAMES) - 1)
    extra = bounding if ALL in added else tuple(name for name in bounding if name in added)
    return Capabilities(bounding, extra, extra, extra, extra)


def known_sets(sets: Capabilities, last_cap: int) -> tuple[Capabilities, tuple[str, ...]]:
    """A document's `sets` without the names that this kernel does not have, and those: the specification wants a
    warning, not an error."""
    known = frozenset(NAMES[: last_cap + 1])
    named = (sets.bounding, sets.effective, sets.inheritable, sets.permitted, sets.ambient)
    kept = [tuple(name for name in dict.fromkeys(names) if name in known) for names in named]
    unknown = dict.fromkeys(name for names in named for name in names if name not in known)
    return Capabilities(*kept), tuple(unknown)


def unknown_capabilities(sets: Capabilities | None) -> tuple[str, ...]:
    """The names in a document's `sets` that no kernel has: the specification wants a warning, not an error."""
    return known_sets(sets, len(NAMES) - 1)[1] if sets is not None else ()


def possible_sets(sets: Capabilities, last_cap: int) -> Capabilities:
    """The sets of a document as this kernel can have them: names that it does not know mean nothing, and an ambient
    capability must be permitted and inheritable. runc and crun leave out what is not, and documents rely on it."""
    kept, _unknown = known_sets(sets, last_cap)
    ambient = tuple(one for one in kept.ambient if one in kept.permitted and one in kept.inheritable)
    return replace(kept, ambient=ambient)


def capability_name(text: str, option: str = "capability") -> str:
    """`text` as the kernel spells it: "net_raw" → "CAP_NET_RAW". Raises `UsageError`, with the nearest name as hint."""
    name = text.strip().upper()
    if not name.startswith("CAP_"):
        name = f"CAP_{name}"
    if name not in NUMBERS:
        from difflib import get_close_matches

        near = get_close_matches(name, NAMES, 1, 0.75)  # CAP_ makes any two look alike
        hint = f"did you mean {near[0][4:]}?" if near else "capabilities(7) lists them"
        raise UsageError(f"use {option}", text, reason="there is no such capability", hint=hint)
    return name


def _names(values: Iterable[str], option: str, last_cap: int) -> tuple[str, ...]:
    names = []
    for text in values:
        for part in text.split(","):
            if part.strip().upper() in (ALL, f"CAP_{ALL}"):
                names.append(ALL)
                continue
            name = capability_name(part, option)
            if NUMBERS[name] > last_cap:
                raise UsageError(f"use {option}", name, reason="this kernel does not have it")
            names.append(name)
    return tuple(names)
