"""Which of an image's variants fits a machine (OCI image-spec 1.1, image-index.md, property `platform`)."""

from __future__ import annotations

import os
from typing import Any

from jubako.errors import JubakoError, UsageError
from jubako.record import record

_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", "v8"),
    "arm64": ("arm64", "v8"),
    "armv8l": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
}


@record
class Platform:
    """`linux/arm64/v8` in three parts, with Go's names."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def host_platform() -> Platform:
    """The platform of this machine."""
    machine = os.uname().machine
    architecture, variant = _ARCHITECTURES.get(machine, (machine, ""))
    return Platform("linux", architecture, variant)


def parse_platform(text: str) -> Platform:
    """`OS/ARCH[/VARIANT]`, or an architecture alone, as docker's `--platform` takes it."""
    parts = text.lower().split("/")
    if not all(parts) or len(parts) > 3:
        raise UsageError("read platform", repr(text), reason="write OS/ARCH or OS/ARCH/VARIANT, as in linux/arm64/v8")
    if len(parts) == 1:
        parts = ["linux", parts[0]]
    architecture, variant = _ARCHITECTURES.get(parts[1], (parts[1], ""))
    return Platform(parts[0], architecture, parts[2] if len(parts) == 3 else variant)


def platform_of(descriptor: dict[str, Any]) -> Platform | None:
    """What a descriptor says of its platform; None if nothing."""
    said = descriptor.get("platform")
    if (
        not isinstance(said, dict)
        or not isinstance(said.get("architecture"), str)
        or not isinstance(said.get("os"), str)
    ):
        return None
    variant = said.get("variant")
    return Platform(said["os"], said["architecture"], variant if isinstance(variant, str) else "")


def choose(descriptors: list[dict[str, Any]], platform: Platform, label: str) -> dict[str, Any]:
    """The descriptor that fits best: the exact variant, then one that says none, then an older ARM variant.

    Raises `JubakoError` naming the platforms there are.
    """
    if len(descriptors) == 1 and platform_of(descriptors[0]) is None:
        return descriptors[0]
    ranked: list[tuple[int, int, dict[str, Any]]] = []
    for descriptor in descriptors:
        offered = platform_of(descriptor)
        if offered is not None and (offered.os, offered.architecture) == (platform.os, platform.architecture):
            rank = _variant_rank(offered.variant, platform)
            if rank is not None:
                ranked.append((rank, len(ranked), descriptor))
    if not ranked:
        known = sorted({str(platform_of(descriptor) or "unknown") for descriptor in descriptors})
        raise JubakoError(
            "read", label, reason=f"it holds no image for {platform}, only for {', '.join(known) or 'nothing'}",
            hint="choose one with --platform OS/ARCH" if known else "",
        )  # fmt: skip
    return min(ranked)[2]


def _variant_rank(offered: str, platform: Platform) -> int | None:
    wanted = platform.variant
    if offered == wanted:
        return 0
    if not offered or not wanted:
        return 1
    if platform.architecture in ("arm", "arm64") and offered < wanted:
        return 1 + ord(wanted[-1]) - ord(offered[-1])
    return None
