"""What each worker of a cluster has, for people and for `harmonia doctor --cluster`.

Owns the words. Facts come from the workers themselves (`worker.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harmonia_lab._version import __version__

__all__ = ["described", "facts_of", "summary"]


def facts_of(client: Any, addresses: list[str]) -> dict[str, dict[str, Any]]:
    """Return each worker's facts by address; {"error": text} of one that can't say. client: Dask's."""
    from harmonia_lab.backends.cluster.entry import facts  # noqa: PLC0415 - Dask loads with it

    if not addresses:
        return {}
    try:
        answers = client.run(facts, workers=addresses, on_error="return")
    except Exception as error:  # noqa: BLE001 - whatever Dask raises, the others' answers are gone, too
        return {address: {"error": f"{type(error).__name__}: {error}"} for address in addresses}
    return {
        address: answer if isinstance(answer, dict) else {"error": f"{type(answer).__name__}: {answer}"}
        for address, answer in answers.items()
    }


def described(facts: Mapping[str, Any]) -> str:
    """Return one worker's facts in a line."""
    if "error" in facts:
        return f"can't make songs ({facts['error']})"
    slots = ", ".join(f"{name}={amount:g}" for name, amount in facts["slots"].items()) or "no place for a song"
    gpu = facts["gpu"] or "no GPU"
    version = facts["version"] if facts["version"] == __version__ else f"{facts['version']} (this lab: {__version__})"
    return (
        f"{facts['host']}, process {facts['pid']}: {slots}; {gpu}; {facts['threads']} of {facts['cores']} cores,"
        f" {facts['memory_bytes'] / 2**30:.0f} GiB; Harmonia Lab {version}, Python {facts['python']};"
        f" {facts['running']} songs now, engines loaded {facts['engines_made']} times"
    )


def summary(head: str, found: Mapping[str, Mapping[str, Any]], dashboard: str | None) -> str:
    """Return what a cluster is and has, as lines. found: the workers' facts by address."""
    lines = [head, *(f"  {facts.get('worker', address)}  {described(facts)}" for address, facts in found.items())]
    if dashboard is not None:
        lines.append(f"  Dask's dashboard: {dashboard}")
    return "\n".join(lines)
