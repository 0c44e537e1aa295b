"""temporary"""
from __future__ import annotations
HOST_NAMES = ("host.containers.internal", "host.docker.internal")
def host_gateway(link): return link.host
def resolv_conf(text, link, dns=(), search=(), options=()):
    lines=[f"nameserver {a}" for a in (dns or link.dns)]
    lines+=[l for l in text.splitlines() if l.startswith(("search","options"))]
    return "\n".join(lines)+"\n"
