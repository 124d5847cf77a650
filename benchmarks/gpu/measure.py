"""`measure`: runs the parts on this machine's GPU, most important first, each in a process of its own.

Owns their order, their time limits, and the folder of results: `rows.jsonl`, `log.txt`, `profile.txt`,
`environment.json`. A part that fails or hangs costs its own time and no other part. `--parts` repeats some of them, and
adds to the rows. While a part measures, the process of the next one imports its libraries, which takes seconds and
doesn't touch the GPU, and waits.
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

from benchmarks.gpu.kit import DEFAULT_KIT, ROOT, KitError, installed, problems, unpack, version_mismatches
from benchmarks.gpu.report import report
from benchmarks.gpu.rows import Rows

__all__ = ["PARTS", "configure", "run"]


@dataclass(frozen=True)
class Part:
    """limit_s: its time limit, imports included. answers: the question that it answers, for the log."""

    name: str
    limit_s: float
    answers: str


PARTS = (
    Part("machine", 30, "what machine, what it lacks, its ceilings"),
    Part("tokens", 125, "audiocraft's tokens?"),
    Part("speed", 125, "steps a second, beside the floor and the peers"),
    Part("memory", 50, "is the log's memory true, is it flat, what if it runs out"),
    Part("cancel", 35, "how soon a cancel takes effect"),
    Part("profile", 30, "where a step's time goes"),
    Part("codec", 20, "the codec's decode and the mix"),
)

STOPPED = 3
"""Exit status of the first part if the others can't work."""

MOST_BYTES = 16 * 10**6
"""The largest size of log.txt and of profile.txt."""


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
        (options.out / "log.txt").open("a", encoding="utf-8").close()
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
        _write_environment(options.out, lacking + version_mismatches(kit, installed()))
        for line in lacking:
            print(f"measure: {line}", file=sys.stderr)
        if lacking:
            return 1
        ended = _run_parts([part for part in PARTS if part.name in names], options, environment)
    _keep_small(options.out)
    print(report(Rows(options.out / "rows.jsonl").read()))
    return 0 if all(status == "done" for status in ended) else 1


def _run_parts(parts: list[Part], options: argparse.Namespace, environment: dict[str, str]) -> list[str]:
    """Run the parts in order and return their statuses. Stop if the first says that the others can't work."""
    ended: list[str] = []
    children = [_Child(part, options, environment) for part in parts[:1]]
    try:
        for number, part in enumerate(parts):
            children[0].start()
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
    """A part's process. It imports its libraries and waits for a line on standard input. Its output goes to a file."""

    def __init__(self, part: Part, options: argparse.Namespace, environment: dict[str, str]) -> None:
        # A rehearsal on a CPU, which may be busy, checks that the steps work, not how long they take.
        self.limit_s = part.limit_s * (6 if options.rehearse else 1)
        command = [sys.executable, "-m", "benchmarks.gpu.part", part.name, "--out", str(options.out)]
        command += ["--limit", str(self.limit_s - 3), *(["--rehearse"] if options.rehearse else [])]
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - read after the part has ended
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=self._output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        self._started_at = time.monotonic()

    def start(self) -> None:
        """Let the part measure."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the process has ended already; its output says why
            self._process.stdin.write(b"go\n")
            self._process.stdin.close()
        self._started_at = time.monotonic()

    def wait(self) -> tuple[int | None, float]:
        """Return the exit status (None if the process ran past its limit), and the seconds since `start`."""
        code: int | None = None
        try:
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(self.limit_s)
        finally:  # also on an interrupt, which doesn't reach the process group of the part
            self.end()
        return code, time.monotonic() - self._started_at

    def output(self) -> str:
        """Return the end of the process's output."""
        self._output.seek(max(0, self._output.seek(0, os.SEEK_END) - MOST_BYTES))
        return self._output.read().decode(errors="replace")

    def close(self) -> None:
        self._output.close()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def end(self) -> None:
        """Kill the process and the processes that it started."""
        if sys.platform == "win32":
            raise NotImplementedError("this benchmark needs Linux")
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # it may hang in the driver, which must not stop the other parts
            self._process.wait(10)


def _finish(part: Part, child: _Child, out: Path) -> str:
    """Wait for a part within its limit, write its log and its final row, and return its status."""
    print(f"== {part.name}: {part.answers} (at most {child.limit_s:g} s)", flush=True)
    code, seconds = child.wait()
    output = child.output()
    with (out / "log.txt").open("a", encoding="utf-8") as log:
        log.write(f"== {part.name}\n{output}")
    status = {0: "done", None: "timeout", STOPPED: "stopped"}.get(code, "failed")
    last = next((line for line in reversed(output.splitlines()) if line.strip()), "it printed nothing")
    why = {"done": "", "timeout": f"it ran past its limit; its last line: {last}"}.get(status, last)
    Rows(out / "rows.jsonl").write(
        part.name, "part", seconds, status=status, seconds=round(seconds, 1), limit_s=child.limit_s, why=why[:300]
    )
    print(f"   {status} after {seconds:.1f} s {why[:160]}", flush=True)
    return status


def _environment(site: Path | None, scratch: Path) -> dict[str, str]:
    """Return the parts' environment: the repository and the kit on the path, no model hub, a temporary home."""
    paths = [str(ROOT), *([str(site)] if site is not None else [])]
    given = os.environ.get("PYTHONPATH")
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([*paths, *([given] if given else [])]),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "HARMONIA_HOME": str(scratch / "home"),
    }


def _write_environment(out: Path, found: list[str]) -> None:
    """Write the installed packages, and what the check of the kit found."""
    facts = {"python": sys.version, "packages": dict(sorted(installed().items())), "said": found}
    (out / "environment.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _keep_small(out: Path) -> None:
    """Cut log.txt and profile.txt to their last MOST_BYTES. Rows are few, and stay complete."""
    for path in (out / "log.txt", out / "profile.txt"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size > MOST_BYTES:
            path.write_bytes(path.read_bytes()[-MOST_BYTES:])


def _names() -> str:
    return ", ".join(part.name for part in PARTS)
