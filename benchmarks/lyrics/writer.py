"""The process that writes the songs of one version: stage 1, and the plan, which says which lines are sung.

Owns nothing but the calls of the package, of whichever checkout PYTHONPATH names: it must run with versions that don't
have this file. It reads a JSON object a line, and answers each with one. `compare.py` starts it by its path.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import harmonia_lab
from harmonia_lab.engine_registry import choose_metadata
from harmonia_lab.engines.base import CancelToken, MetadataEngine
from harmonia_lab.engines.probes import cpu_seconds, git_commit
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.music.composing import compose
from harmonia_lab.music.seeds import derive_seed
from harmonia_lab.protocol.models import parse_request


def main() -> int:
    engine, _ = choose_metadata(*_arguments())
    print(json.dumps({"folder": str(Path(harmonia_lab.__file__).parents[1]), "commit": git_commit()}), flush=True)
    try:
        for line in sys.stdin:
            print(json.dumps(_song(engine, **json.loads(line))), flush=True)
    finally:
        engine.close()
    return 0


def _arguments() -> tuple[str, str | None]:
    return sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None


def _song(engine: MetadataEngine, narrative: str, seed: int, seconds: float) -> dict[str, Any]:
    """Return the song's metadata, the lines that its plan sings, and what stage 1 cost. An error is a row of its own.

    stage_1_s, first_token_s: seconds. cpu_s: processor time of stage 1, the model server's included. tokens: generated.
    """
    started, cpu = time.perf_counter(), cpu_seconds()
    try:
        request = parse_request(narrative=narrative, seed=seed, seconds=seconds)
        result = engine.write(request, derive_seed(seed, "metadata"), lambda _: None, CancelToken())
        stage_1_s, cpu_s = time.perf_counter() - started, cpu_seconds() - cpu
        plan = compose(result.metadata, seconds, derive_seed(seed, "plan"))
    except HarmoniaError as error:
        return {"error": str(error)}
    return {
        "metadata": result.metadata.to_wire(),
        "sung": [line.text for line in plan.sung],
        "stage_1_s": round(stage_1_s, 3),
        "cpu_s": round(cpu_s, 3),
        "first_token_s": result.time_to_first_token_s and round(result.time_to_first_token_s, 3),
        "tokens": result.tokens,
    }


if __name__ == "__main__":
    sys.exit(main())
