"""Which cluster a lab names, and whether its connections may be used.

Owns the forms of `cluster=`, and the rule that nothing passes another machine unencrypted: whoever reaches a plain port
of Dask's can have any program run there. Imports nothing heavy.
"""

from __future__ import annotations

import ipaddress
import re

from harmonia_lab.errors import InvalidRequest

__all__ = ["LOCAL", "check_address", "is_loopback_address", "local_workers", "named"]

LOCAL = "local"
_FIELD = {"fields": ["cluster"]}


def local_workers(cluster: object) -> int | None:
    """Return N of "local:N", 0 of "local"; None for anything else. Raises InvalidRequest for a number below 1."""
    if not isinstance(cluster, str) or not (found := re.fullmatch(r"local(?::(.*))?", cluster.strip())):
        return None
    if found[1] is None:
        return 0
    if not found[1].isascii() or not found[1].isdigit() or not 1 <= int(found[1]) <= 64:
        raise InvalidRequest(
            f"{found[1][:20]!r} is no number of workers.", hint="Write local:2, with 1 to 64.", details=_FIELD
        )
    return int(found[1])


def named(cluster: object) -> str:
    """Return the address of a string, a Client or a Cluster object, and how the lab calls it. Raises InvalidRequest for
    anything else."""
    if isinstance(cluster, str):
        return cluster.strip()
    scheduler = getattr(cluster, "scheduler", None)
    address = getattr(cluster, "scheduler_address", None) or getattr(scheduler, "address", None)
    if not isinstance(address, str) or not address:
        raise InvalidRequest(
            f"{type(cluster).__name__} is no Dask cluster.",
            hint='Give "local", an address such as "tls://head:8786", a dask.distributed.Client, or a Cluster object.',
            details=_FIELD,
        )
    return address


def check_address(address: str) -> None:
    """Raise InvalidRequest for what is no scheduler's address, and for one beyond this machine without encryption."""
    scheme, separator, rest = address.rpartition("://")
    scheme = scheme if separator else "tcp"
    if scheme == "inproc":
        raise InvalidRequest(
            "Songs of that cluster would be made in this process: its workers are threads.",
            hint="Make it with processes: LocalCluster(processes=True).",
            details=_FIELD,
        )
    if scheme not in ("tcp", "tls") or not re.fullmatch(r"(\[[^\]]+\]|[^\s:/@]+):\d{1,5}", rest):
        raise InvalidRequest(
            "That is no address of a Dask scheduler.",
            hint='Write "tls://head:8786", or "tcp://127.0.0.1:8786" for one of this machine.',
            details=_FIELD,
        )
    if scheme == "tcp" and not is_loopback_address(address):
        raise InvalidRequest(
            f"The scheduler at {rest} is not encrypted: whoever reaches its port can run programs on every worker, and"
            " songs' words would pass the network as they are.",
            hint="Start scheduler and workers with TLS (dask scheduler --protocol tls --tls-ca-file … --tls-cert …"
            " --tls-key …; docs/cluster.md), or reach it through a tunnel to this machine's loopback.",
            details=_FIELD,
        )


def is_loopback_address(address: str) -> bool:
    """Return whether a scheduler's address is this machine's own loopback."""
    host = address.rpartition("://")[2].rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
