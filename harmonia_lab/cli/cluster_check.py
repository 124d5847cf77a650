"""`harmonia doctor --cluster`: whether songs can be made on a Dask cluster, looked at step by step.

Owns the checks. Nothing is made but one task, which asks a worker which engine would write the words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harmonia_lab.engines.spec import Check
from harmonia_lab.errors import HarmoniaError

__all__ = ["checks_of_cluster"]

ANSWER_S = 20.0


def checks_of_cluster(address: str, asked: Mapping[str, Any]) -> list[Check]:
    """Return the checks. asked: parameters of `Lab`, which choose the engines."""
    from harmonia_lab.backends.cluster.backend import ClusterMetadata, plain_engines  # noqa: PLC0415 - Dask loads for it
    from harmonia_lab.backends.cluster.cluster import Cluster  # noqa: PLC0415 - as above
    from harmonia_lab.backends.cluster.summary import described  # noqa: PLC0415 - as above

    names = ("metadata", "model", "metadata_settings", "audio", "audio_model", "audio_settings")
    try:
        engines = plain_engines({name: asked[name] for name in names})
        cluster = Cluster(address)
    except HarmoniaError as error:
        return [Check("scheduler", "missing", error.message, error.hint)]
    try:
        checks = [Check("scheduler", "ok", f"{cluster.address} answers", "")]
        for place, facts in cluster.facts().items():
            usable = "error" not in facts and facts["slots"]
            mend = "" if usable else "Install the same harmonia-lab there, and start it with --resources song=1."
            checks.append(
                Check(f"worker {facts.get('worker', place)}", "ok" if usable else "optional", described(facts), mend)
            )
        slots = cluster.slots
        found = f"{slots} songs at once" if slots else cluster.without_slots
        checks.append(Check("places", "ok" if slots else "missing", found, ""))
        if slots:
            checks.append(_wire(ClusterMetadata(cluster, engines, ANSWER_S)))
        return checks
    finally:
        cluster.close()


def _wire(metadata: Any) -> Check:
    """Return whether a worker reaches this machine, and which engine it would write words with."""
    try:
        engine = metadata.engine
    except HarmoniaError as error:
        return Check("words", "missing", error.message, error.hint)
    model = f" with {engine.model}" if engine.model else ""
    return Check("words", "ok", f"by {engine.name}{model}, as a worker says over its own connection", "")
