"""Whether a Dask scheduler is what answers at an address.

Owns one greeting with a limit of time. Dask's own client waits for the other end's greeting without one, so that a web
server's port, or a tunnel with nothing behind it, would hold it for ever.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from harmonia_lab.errors import Disconnected

__all__ = ["check_answer"]

MORE_S = 1.0
"""Seconds beyond those that Dask tries to connect for."""


def check_answer(address: str, security: Any, within_s: float) -> None:
    """Raise OSError if nothing answers, Disconnected if what answers is no scheduler. security: Dask's; None for that
    of its configuration."""
    with ThreadPoolExecutor(1, "harmonia-greeting") as thread:  # the caller's may have a loop of its own, as in Jupyter
        thread.submit(asyncio.run, _greet(address, security, within_s)).result()


async def _greet(address: str, security: Any, within_s: float) -> None:
    from distributed import Security, rpc  # noqa: PLC0415 - Dask loads where it is used

    connection = rpc(address, timeout=within_s, connection_args=(security or Security()).get_connection_args("client"))
    try:
        found = await asyncio.wait_for(connection.identity(), within_s + MORE_S)
        if found.get("type") == "Scheduler":
            return
        kind = f"is no Dask scheduler, but a {found.get('type')}"
    except TimeoutError:
        kind = f"has not said within {within_s:g} s that it is a Dask scheduler"
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever Dask makes of another program's bytes
        kind = f"is no Dask scheduler ({type(error).__name__})"
    finally:
        await connection.close_rpc()
    raise Disconnected(
        f"What answers at {address} {kind}.",
        hint="`dask scheduler` prints its address when it starts; its dashboard and its workers have other ports.",
    )
