"""What may pass in the keeper's network namespace: nft(8) where it is installed, else iptables(8) and ip6tables(8).

Forwarded are packets from a bridge to the uplink, with a source address that the bridge's network really has, and
answers to them; between bridges nothing is. The keeper itself is reached by the name server's port alone, each
network's bridge at its own addresses alone, and by what IPv4 and IPv6 need to work. The rules are written anew as a
whole whenever a bridge comes or goes, and replaced in one step.
"""

from __future__ import annotations

import os
import subprocess

from jubako.errors import JubakoError, NotFoundError
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_TABLE = "jubako"
_SECONDS = 30
_LOCK = "xtables.lock"


@record
class Gate:
    """One bridge: its device, its subnets and gateways as (subnet, gateway), and whether it leads outside."""

    device: str
    subnets: tuple[tuple[str, str], ...]
    outside: bool


@record
class Uplink:
    """The device that leads outside, and addresses behind it that nobody may reach."""

    device: str
    barred: tuple[str, ...] = ()


class Firewall:
    """The rules of the network namespace that this process is in. Raises `NotFoundError` where no program is."""

    def __init__(self, directory: str) -> None:
        from jubako.net.programs import find_program

        self.environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "XTABLES_LOCKFILE": f"{directory}/{_LOCK}"}
        try:
            self.nft = find_program("nft")
            self.iptables = self.ip6tables = ""
        except NotFoundError:
            self.nft = ""
            try:
                self.iptables = find_program("iptables-restore")
                self.ip6tables = find_program("ip6tables-restore")
            except NotFoundError as failure:
                raise NotFoundError(
                    "find the program",
                    "nft",
                    reason="neither it nor iptables-restore is installed, and bridge networks are kept apart by one",
                    hint="install the package nftables, or choose another network: --network pasta or none",
                ) from failure

    def apply(self, gates: Iterable[Gate], uplink: Uplink | None) -> None:
        """Let these rules take the place of those that there are."""
        gates = tuple(gates)
        if self.nft:
            self._feed((self.nft, "-f", "-"), nft_rules(gates, uplink))
        else:
            self._feed((self.iptables,), iptables_rules(gates, uplink, version=4))
            self._feed((self.ip6tables,), iptables_rules(gates, uplink, version=6))

    def _feed(self, argv: tuple[str, ...], text: str) -> None:
        name = os.path.basename(argv[0])
        try:
            done = subprocess.run(
                argv,
                check=False,
                input=text.encode(),
                capture_output=True,
                timeout=_SECONDS,
                env=self.environment,
                cwd="/",
            )
        except subprocess.TimeoutExpired as failure:
            raise JubakoError("set the rules with", name, reason=f"it did not end within {_SECONDS} s") from failure
        if done.returncode:
            words = (done.stderr or done.stdout).decode(errors="replace").strip().replace("\n", "; ")
            raise JubakoError("set the rules with", name, reason=words or f"it ended with code {done.returncode}")


def nft_rules(gates: Iterable[Gate], uplink: Uplink | None) -> str:
    """The rules for nft: one table of ours, made anew in one transaction."""
    into, through, hide = [], [], []
    for gate in gates:
        device = f'iifname "{gate.device}"'
        for subnet, gateway in gate.subnets:
            family = _family(subnet)
            for protocol in ("udp", "tcp"):
                into.append(f"{device} {family} saddr {subnet} {family} daddr {gateway} {protocol} dport 53 accept")
            echo = "icmp" if family == "ip" else "icmpv6"
            into.append(f"{device} {family} daddr {gateway} {echo} type echo-request accept")
        through.append(f'{device} oifname "{gate.device}" accept')
        if uplink is None or not gate.outside:
            continue
        out = f'oifname "{uplink.device}"'
        for subnet, _gateway in gate.subnets:
            family = _family(subnet)
            for address in uplink.barred:
                if _family(address) == family:
                    through.append(f"{device} {family} daddr {address} drop")
            through.append(f"{device} {out} {family} saddr {subnet} accept")
            hide.append(f"{out} {family} saddr {subnet} masquerade")
    lines = [
        f"table inet {_TABLE} {{}}",
        f"delete table inet {_TABLE}",
        f"table inet {_TABLE} {{",
        "chain input { type filter hook input priority 0; policy drop;",
        "ct state established,related accept",
        'iifname "lo" accept',
        "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept",
        *into,
        "}",
        "chain forward { type filter hook forward priority 0; policy drop;",
        "ct state established,related accept",
        "ct state invalid drop",
        *through,
        "}",
        "chain postrouting { type nat hook postrouting priority 100; policy accept;",
        *hide,
        "}",
        "}",
    ]
    return "\n".join(lines) + "\n"


def iptables_rules(gates: Iterable[Gate], uplink: Uplink | None, *, version: int) -> str:
    """The rules for iptables-restore or ip6tables-restore: the tables filter and nat, each replaced in one step."""
    into, through, hide = [], [], []
    for gate in gates:
        mine = [pair for pair in gate.subnets if (":" in pair[0]) is (version == 6)]
        for subnet, gateway in mine:
            for protocol in ("udp", "tcp"):
                into.append(f"-A INPUT -i {gate.device} -s {subnet} -d {gateway} -p {protocol} --dport 53 -j ACCEPT")
            echo = "icmp --icmp-type" if version == 4 else "icmpv6 --icmpv6-type"
            into.append(f"-A INPUT -i {gate.device} -d {gateway} -p {echo} echo-request -j ACCEPT")
        through.append(f"-A FORWARD -i {gate.device} -o {gate.device} -j ACCEPT")
        if uplink is None or not gate.outside:
            continue
        for subnet, _gateway in mine:
            for address in uplink.barred:
                if (":" in address) is (version == 6):
                    through.append(f"-A FORWARD -i {gate.device} -d {address} -j DROP")
            through.append(f"-A FORWARD -i {gate.device} -o {uplink.device} -s {subnet} -j ACCEPT")
            hide.append(f"-A POSTROUTING -o {uplink.device} -s {subnet} -j MASQUERADE")
    if version == 6:
        for kind in ("neighbour-solicitation", "neighbour-advertisement"):
            into.append(f"-A INPUT -p icmpv6 --icmpv6-type {kind} -j ACCEPT")
    lines = [
        "*filter",
        ":INPUT DROP [0:0]",
        ":FORWARD DROP [0:0]",
        ":OUTPUT ACCEPT [0:0]",
        "-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
        "-A INPUT -i lo -j ACCEPT",
        *into,
        "-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
        "-A FORWARD -m conntrack --ctstate INVALID -j DROP",
        *through,
        "COMMIT",
        "*nat",
        ":PREROUTING ACCEPT [0:0]",
        ":INPUT ACCEPT [0:0]",
        ":OUTPUT ACCEPT [0:0]",
        ":POSTROUTING ACCEPT [0:0]",
        *hide,
        "COMMIT",
    ]
    return "\n".join(lines) + "\n"


def _family(address: str) -> str:
    return "ip6" if ":" in address else "ip"
