"""`measure`: runs the parts on this machine's GPU, most important first, each in a process of its own.

Owns their order, their limits, and the folder of results: `rows.jsonl`, `log.txt`, `profile.txt`, `environment.json`.
A part that fails or hangs costs its own limit and no other part; `--parts` repeats some of them, and adds to the rows.
While a part measures, the next one imports its libraries, which takes seconds and touches no GPU, and waits.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.kit import DEFAULT_KIT, ROOT, KitError, doubts, installed, problems, unpack
from benchmarks.gpu.report import report
from benchmarks.gpu.rows import Rows

__all__ = ["PARTS", "configure", "run"]


@dataclass(frozen=True)
class Part:
    """limit_s: what it may take, its imports included."""

    name: str
    limit_s: float
    answers: str


PARTS = (
    Part("machine", 30, "what machine, what it lacks, its ceilings"),
    Part("tokens", 125, "audiocraft's tokens?"),
    Part("speed", 125, "steps a second, beside the floor and the peers"),
    Part("memory", 50, "is the log's memory true, is it flat, what if it runs out"),
    Part("cancel", 35, "how soon a cancel is heard"),
    Part("profile", 30, "where a step's time goes"),
    Part("codec", 20, "the codec's decode and the mix"),
)

STOPPED = 3
"""Exit status of the first part where the rest can't work."""

MOST_BYTES = 16 * 10**6


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kit", type=Path, help=f"the folder that `prepare` filled (default {DEFAULT_KIT}, if there)")
    parser.add_argument("--out", type=Path, required=True, help="the folder for the results")
    parser.add_argument("--parts", default=",".join(part.name for part in PARTS), help="some of them, comma-separated")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, with tiny shapes")


def run(options: argparse.Namespace) -> int:
    names = options.parts.split(",")
    unknown = sorted(set(names) - {part.name for part in PARTS})
    if unknown:
        print(f"measure: there is no part {', '.join(unknown)}: choose of {_names()}", file=sys.stderr)
        return 2
    options.out = options.out.absolute()  # the parts run in the repository's root
    kit = options.kit or (ROOT / DEFAULT_KIT if (ROOT / DEFAULT_KIT).is_dir() else None)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "log.txt").open("a").close()
    except OSError as error:
        print(
            f"measure: {options.out} can't be written: {error.strerror}. Name another folder by --out.", file=sys.stderr
        )
        return 1
    with tempfile.TemporaryDirectory(prefix="harmonia-kit-") as scratch:
        try:
            site = unpack(kit, Path(scratch) / "site") if kit is not None else None
        except KitError as error:
            print(f"measure: {error}", file=sys.stderr)
            return 1
        environment = _environment(site, Path(scratch))
        lacking = problems(kit, installed())
        _write_environment(options.out, lacking + doubts(kit, installed()))
        for line in lacking:
            print(f"measure: {line}", file=sys.stderr)
        if lacking:
            return 1
        ended = _run_parts([part for part in PARTS if part.name in names], options, environment)
    _keep_small(options.out)
    print(report(Rows(options.out / "rows.jsonl").read()))
    return 0 if all(status == "done" for status in ended) else 1


def _run_parts(parts: list[Part], options: argparse.Namespace, environment: dict[str, str]) -> list[str]:
    """Run the parts one after the other; return how each ended. The first may say that the rest can't work."""
    ended: list[str] = []
    children = [_Child(part, options, environment) for part in parts[:1]]
    try:
        for number, part in enumerate(parts):
            children[0].go()
            children += [_Child(each, options, environment) for each in parts[number + 1 : number + 2]]
            ended.append(_finish(part, children[0], options.out))
            children.pop(0).close()
            if ended[-1] == "stopped":
                print(f"measure: the rest can't work here; {options.out / 'log.txt'} says why", file=sys.stderr)
                break
    finally:
        for child in children:
            child.end()
            child.close()
    return ended


class _Child:
    """A part's process, which imports what it needs and then waits for a line. Its output goes to a file of its own."""

    def __init__(self, part: Part, options: argparse.Namespace, environment: dict[str, str]) -> None:
        # A rehearsal computes on a CPU that may be busy: it is held to the steps, not to their time.
        self.limit_s = part.limit_s * (6 if options.rehearse else 1)
        command = [sys.executable, "-m", "benchmarks.gpu.part", part.name, "--out", str(options.out)]
        command += ["--limit", str(self.limit_s - 3), *(["--rehearse"] if options.rehearse else [])]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - it is read when the part has ended
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=self._said, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        self._begun = time.monotonic()

    def go(self) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it ended already, and says why
            self._process.stdin.write(b"go\n")
            self._process.stdin.close()
        self._begun = time.monotonic()

    def wait(self) -> tuple[int | None, float]:
        """Its exit status, None where it ran past its limit, and the seconds since it was told to go."""
        code: int | None = None
        try:
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(self.limit_s)
        finally:  # also where somebody interrupts us, which the part's own process group does not hear
            self.end()
        return code, time.monotonic() - self._begun

    def said(self) -> str:
        """The end of what it printed."""
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - MOST_BYTES))
        return self._said.read().decode(errors="replace")

    def close(self) -> None:
        self._said.close()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def end(self) -> None:
        """The process and what it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # stuck in the driver: it must not end the other parts too
            self._process.wait(10)


def _finish(part: Part, child: _Child, out: Path) -> str:
    """Wait for a part, within its limit; write its log and how it ended."""
    print(f"== {part.name}: {part.answers} (at most {child.limit_s:g} s)", flush=True)
    code, seconds = child.wait()
    said = child.said()
    with (out / "log.txt").open("a") as log:
        log.write(f"== {part.name}\n{said}")
    status = {0: "done", None: "timeout", STOPPED: "stopped"}.get(code, "failed")
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "it printed nothing")
    why = {"done": "", "timeout": f"it ran past its limit; its last line: {last}"}.get(status, last)
    Rows(out / "rows.jsonl").write(
        part.name, "part", seconds, status=status, seconds=round(seconds, 1), limit_s=child.limit_s, why=why[:300]
    )
    print(f"   {status} after {seconds:.1f} s {why[:160]}", flush=True)
    return status


def _environment(site: Path | None, scratch: Path) -> dict[str, str]:
    """The parts' environment: the repository and the kit importable, no model hub, a home of its own."""
    paths = [str(ROOT), *([str(site)] if site is not None else [])]
    given = os.environ.get("PYTHONPATH")
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([*paths, *([given] if given else [])]),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "HARMONIA_HOME": str(scratch / "home"),
    }


def _write_environment(out: Path, said: list[str]) -> None:
    """What is installed here, and what the kit's check says."""
    facts = {"python": sys.version, "packages": dict(sorted(installed().items())), "said": said}
    (out / "environment.json").write_text(json.dumps(facts, indent=1) + "\n")


def _keep_small(out: Path) -> None:
    """Cut our own texts at their heads, where they grew beyond what travels. Rows are few, and stay whole."""
    for path in (out / "log.txt", out / "profile.txt"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size > MOST_BYTES:
            path.write_bytes(path.read_bytes()[-MOST_BYTES:])


def _names() -> str:
    return ", ".join(part.name for part in PARTS)
