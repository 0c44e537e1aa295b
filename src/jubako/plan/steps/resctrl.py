"""The step for `linux.intelRdt`: OCI runtime-spec 1.3, config-linux.md, "Intel RDT"."""

from __future__ import annotations

import errno
import os

from jubako.linux import resctrl
from jubako.plan.step import RUNTIME, Slots, Step, quote, step


@step(actor=RUNTIME)
class PlaceInResctrl(Step):
    """The container's share of caches and memory bandwidth: its first process, and all that come from it."""

    mount: str
    group: str
    schemata: tuple[str, ...] = ()
    watched: str = ""
    """A monitoring group of the container's own below it."""

    needs = ("init_pid",)

    def apply(self, slots: Slots) -> None:
        if self.schemata:
            made = resctrl.make_group(self.mount, self.group)
        elif os.path.isdir(f"{self.mount}/{self.group}"):
            made = False
        else:
            raise OSError(errno.ENOENT, "the group has no schemata, so it must exist already", self.group)
        try:
            resctrl.set_schemata(self.mount, self.group, self.schemata)
            resctrl.add_task(self.mount, self.group, slots["init_pid"])
            if self.watched:
                watched = f"{self.group}/mon_groups/{self.watched}"
                resctrl.make_group(self.mount, watched)
                resctrl.add_task(self.mount, watched, slots["init_pid"])
        except OSError as failure:
            failure.strerror = resctrl.last_status(self.mount) or failure.strerror
            if made:
                os.rmdir(f"{self.mount}/{self.group}")
            raise

    def call(self) -> str:
        group = f"{self.mount}/{self.group}"
        calls = [f"mkdir({quote(group)})"] if self.schemata else []
        calls += [f"write({quote(group + '/schemata')}, {quote(line)})" for line in self.schemata]
        calls.append(f"write({quote(group + '/tasks')}, PID)")
        if self.watched:
            calls.append(f"mkdir({quote(f'{group}/mon_groups/{self.watched}')}); write(tasks, PID)")
        return "; ".join(calls)

    def operation(self) -> str:
        return "place the container in the resctrl group"

    def subject(self) -> str:
        return quote(self.group)[1:-1]
