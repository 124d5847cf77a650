"""Stage 1 through Ollama: narrative → metadata, with a model on an Ollama server or on the embedded one.

Owns the engine: choice of model and prompting strategy, loading and releasing, cancelling, the record. Exchanges with
the model are in `dialogue.py`, addresses in `endpoint.py`, prompts in `metadata_engines/prompting/`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import httpx
import ollama

from harmonia_lab.engines.base import CancelToken, MetadataProgress, MetadataResult
from harmonia_lab.errors import Cancelled, ErrorCode, HarmoniaError, MetadataError
from harmonia_lab.metadata_engines.ollama.dialogue import Dialogue, ModelFacts, Waits, failures
from harmonia_lab.metadata_engines.ollama.endpoint import Endpoint, server_address
from harmonia_lab.metadata_engines.prompting import stepwise, structured
from harmonia_lab.protocol.models import SongRequest

__all__ = ["OllamaEngine", "Strategy", "Waits", "installed_models"]

Strategy = Literal["auto", "structured", "stepwise"]

_STRATEGIES = {"structured": structured, "stepwise": stepwise}

SMALL = 3.0
"""Billions of parameters. A smaller model is prompted step by step."""

CONTEXT = 8192
"""Tokens of context for a large model that has as many. Prompt, story, answer and repairs fit."""

ALIASES = {"minstral3": "ministral-3"}
"""Misspelt name → the model's name."""

RELEASE_S = 5.0
"""Seconds that `release` waits for the server to unload the model."""

OLLAMA_ALTERNATIVES, OUR_ALTERNATIVES = 20, 3000
"""How many alternatives to a token a server gives log-probabilities of. Ollama refuses more."""

T = TypeVar("T")


class OllamaEngine:
    """Writes metadata with a language model, on an Ollama server ("ollama") or on a server of our own ("embedded").

    Blocking, one song at a time; `write` runs an event loop of its own in the caller's thread.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        host: str | None = None,
        endpoint: Endpoint | None = None,
        headers: Mapping[str, str] | None = None,
        strategy: Strategy = "auto",
        options: Mapping[str, Any] | None = None,
        waits: Waits | None = None,
        pull: bool = False,
    ) -> None:
        """model: its name on the server; None takes the endpoint's own, or the first installed one that writes text.
        host: in the form of OLLAMA_HOST, which is the default. headers: of each request. endpoint: a server of our own,
        instead of host. strategy: auto depends on the model's size. options: Ollama's, for every exchange. pull:
        whether to download a missing model."""
        self.name = "embedded" if endpoint else "ollama"
        self._endpoint = endpoint
        self._url = server_address(host)
        self._headers = dict(headers or {})
        self._wanted = model or (endpoint.model if endpoint else None)
        self._strategy = strategy
        self._options = dict(options or {})
        self._waits = waits or Waits()
        self._pull = pull
        self._used: str | None = None

    @property
    def model(self) -> str:
        """The model that was used last, or will be; "auto" before the server has been asked for its models."""
        return self._used or self._wanted or "auto"

    def write(
        self, request: SongRequest, seed: int, report: Callable[[MetadataProgress], None], cancel: CancelToken
    ) -> MetadataResult:
        """Return the song's metadata. Raises MetadataError, or Cancelled at once, also while it waits for a server."""
        cancel.raise_if_cancelled()
        try:
            return _run(self._write(request, seed, report), cancel)
        except MetadataError as error:
            if error.code in (ErrorCode.OLLAMA_UNAVAILABLE, ErrorCode.OLLAMA_TIMEOUT):
                self._restart()
            raise

    def release(self) -> None:
        """Free the model's memory on a server that may share the device with stage 2. Never raises.

        A server of our own runs on the CPU and keeps its 0.2 GB, so that the next song starts sooner.
        """
        if self._used and not self._endpoint:
            with contextlib.suppress(HarmoniaError), failures(self._url, "when it was asked to free the model"):
                self._release(self._used)

    def _release(self, model: str) -> None:
        with _plain_client(self._url, self._headers, RELEASE_S) as client:
            client.chat(model, messages=[], keep_alive=0)
            deadline = time.monotonic() + RELEASE_S
            while any(entry.model == model for entry in client.ps().models) and time.monotonic() < deadline:
                time.sleep(0.05)

    def close(self) -> None:
        """End the server if it is ours. Idempotent."""
        if self._endpoint:
            self._endpoint.close()

    def _restart(self) -> None:
        """End our own server, so that the next song starts a new one. Raises MetadataError if it knows the cause."""
        if self._endpoint:
            try:
                self._endpoint.check()
            finally:
                self._endpoint.close()

    def _reach(self) -> tuple[str, Mapping[str, str]]:
        """Return the server's address and each request's headers, after starting our own. Raises MetadataError."""
        if not self._endpoint:
            return self._url, self._headers
        self._endpoint.start()
        return self._endpoint.url, self._endpoint.headers

    async def _write(
        self, request: SongRequest, seed: int, report: Callable[[MetadataProgress], None]
    ) -> MetadataResult:
        begun = time.perf_counter()
        url, headers = self._reach()
        async with _client(url, headers, self._waits) as client:
            with failures(url, "before it began"):
                async with asyncio.timeout(self._waits.stall):
                    version = await _version(client)
                # A server of our own loads its model while it starts, so the wait for its first answer is load time.
                started_s = time.perf_counter() - begun if self._endpoint else 0.0
                model = await self._find_model(client, url, request.model or self._wanted, report)
            self._used = model.name
            strategy = self._choose_strategy(model)
            options = self._options | ({"num_ctx": _context(model)} if strategy == "structured" else {})
            dialogue = Dialogue(
                client,
                url,
                model,
                seed,
                report,
                most_alternatives=OUR_ALTERNATIVES if self._endpoint else OLLAMA_ALTERNATIVES,
                # A token has three characters or more in most languages; prompt and answer get the other half.
                most_characters=int(options.get("num_ctx", 2048)) * 3 // 2,
                waits=self._waits,
                options=options,
            )
            before_s = time.perf_counter() - begun
            await dialogue.load()
            metadata = await _STRATEGIES[strategy].write_song(dialogue, request, seed)
        return MetadataResult(
            metadata=metadata,
            transcript=dialogue.transcript,
            record=self._record(model, strategy, version, options),
            model_load_s=started_s + dialogue.load_s,
            time_to_first_token_s=None if dialogue.first_token_s is None else before_s + dialogue.first_token_s,
            tokens=dialogue.tokens,
            tokens_per_second=dialogue.tokens / dialogue.generating_s if dialogue.generating_s > 0 else None,
        )

    async def _find_model(
        self, client: ollama.AsyncClient, url: str, wanted: str | None, report: Callable[[MetadataProgress], None]
    ) -> ModelFacts:
        """Return the wanted model, after a download if allowed. Raises MetadataError (OLLAMA_MODEL_MISSING)."""
        async with asyncio.timeout(self._waits.stall):
            listed = {entry.model: entry.digest for entry in (await client.list()).models if entry.model}
        names = [wanted] if wanted else list(listed)
        found = [name for name in (match_name(name, list(listed)) for name in names) if name]
        if not found and wanted and self._pull:
            found = [await self._download(client, wanted, report)]
        if not found and wanted:
            raise MetadataError(
                f"The model {wanted} is not installed at {url}. Installed: {', '.join(listed) or 'none'}.",
                code=ErrorCode.OLLAMA_MODEL_MISSING,
                hint=f"run: ollama pull {ALIASES.get(wanted, wanted)}",
                details={"model": wanted, "installed": list(listed)},
            )
        candidates = []
        for name in found:
            async with asyncio.timeout(self._waits.stall):
                shown = await client.show(name)
            if wanted or shown.capabilities is None or "completion" in shown.capabilities:
                candidates.append(_facts(name, listed.get(name), shown))
        if not candidates:
            raise MetadataError(
                f"The Ollama server at {url} has no model that writes text. Installed: {', '.join(listed) or 'none'}.",
                code=ErrorCode.OLLAMA_MODEL_MISSING,
                hint="run: ollama pull ministral-3",
                details={"installed": list(listed)},
            )
        large = [facts for facts in candidates if facts.billions is None or facts.billions >= SMALL]
        return (large or candidates)[0]

    async def _download(self, client: ollama.AsyncClient, name: str, report: Callable[[MetadataProgress], None]) -> str:
        name = ALIASES.get(name, name)
        async with asyncio.timeout(self._waits.stall) as limit:
            async for part in await client.pull(name, stream=True):
                limit.reschedule(asyncio.get_running_loop().time() + self._waits.stall)
                share = f" {100 * (part.completed or 0) // part.total} %" if part.total else ""
                report(MetadataProgress(0.0, "analysis", f"Downloading {name}: {part.status or ''}{share}"))
        return name

    def _choose_strategy(self, model: ModelFacts) -> str:
        if self._strategy != "auto":
            return self._strategy
        return "stepwise" if model.billions is not None and model.billions < SMALL else "structured"

    def _record(
        self, model: ModelFacts, strategy: str, version: str | None, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {
            **(self._endpoint.record() if self._endpoint else {"host": self._url}),
            "model": model.name,
            "digest": model.digest,
            "quantization": model.quantization,
            "parameterSize": model.parameter_size,
            "serverVersion": version,
            "client": f"ollama {importlib.metadata.version('ollama')}",
            "strategy": strategy,
            "templateVersion": _STRATEGIES[strategy].template_version(),
            "options": dict(options),
        }


def installed_models(host: str | None = None, timeout_s: float = 3.0) -> list[str]:
    """Return the models of an Ollama server, most recently changed first. Raises MetadataError where none answers.

    It is synchronous, since a notebook's cell, which may call it, runs in an event loop already.
    """
    url = server_address(host)
    with failures(url, "when it was asked for its models"), _plain_client(url, {}, timeout_s) as client:
        return [entry.model for entry in client.list().models if entry.model]


def match_name(wanted: str, installed: Sequence[str]) -> str | None:
    """Return the installed name for `wanted`: the same, with the tag `latest`, or, without a tag, with any tag."""
    name = ALIASES.get(wanted, wanted)
    for candidate in (name, f"{name}:latest"):
        if candidate in installed:
            return candidate
    return next((other for other in installed if ":" not in name and other.startswith(f"{name}:")), None)


def _client(url: str, headers: Mapping[str, str], waits: Waits) -> ollama.AsyncClient:
    return ollama.AsyncClient(
        url, headers=dict(headers), timeout=httpx.Timeout(None, connect=waits.connect), trust_env=False
    )


def _plain_client(url: str, headers: Mapping[str, str], timeout_s: float) -> ollama.Client:
    return ollama.Client(url, headers=dict(headers), timeout=timeout_s, trust_env=False)


async def _version(client: ollama.AsyncClient) -> str | None:
    # The client has no method for this, and its private methods have no types.
    response: httpx.Response = await client._request_raw("GET", "/api/version")  # type: ignore[no-untyped-call]  # noqa: SLF001
    version = response.json().get("version")
    return str(version) if version else None


def _facts(name: str, digest: str | None, shown: ollama.ShowResponse) -> ModelFacts:
    info = dict(shown.modelinfo or {})
    size = shown.details.parameter_size if shown.details else None
    count = info.get("general.parameter_count")
    context = next((value for key, value in info.items() if key.endswith(".context_length")), None)
    return ModelFacts(
        name,
        digest,
        shown.details.quantization_level if shown.details else None,
        size,
        count / 1e9 if isinstance(count, int | float) and count > 0 else billions(size),
        int(context) if isinstance(context, int | float) else None,
        "thinking" in (shown.capabilities or ()),
    )


def billions(size: str | None) -> float | None:
    """Return billions of parameters from a size as servers print it: "135M", "3.2B", "8x7B"; None for other texts."""
    match = re.fullmatch(r"(?:(\d+)x)?(\d+(?:\.\d+)?)\s*([KMBT])", (size or "").strip(), re.IGNORECASE)
    if not match:
        return None
    return int(match[1] or 1) * float(match[2]) * {"K": 1e-6, "M": 1e-3, "B": 1.0, "T": 1e3}[match[3].upper()]


def _context(model: ModelFacts) -> int:
    return min(CONTEXT, model.context or CONTEXT)


def _run(work: Awaitable[T], cancel: CancelToken) -> T:
    """Run a coroutine in an event loop of its own. A cancel ends it wherever it waits. Raises Cancelled.

    `asyncio.run` would wait, in its executor's threads, for a name server that doesn't answer.
    """
    loop = asyncio.new_event_loop()
    try:
        task = asyncio.ensure_future(work, loop=loop)

        def stop() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, so the task has ended
                loop.call_soon_threadsafe(task.cancel)

        with cancel.on_cancel(stop):
            try:
                return loop.run_until_complete(task)
            except asyncio.CancelledError:
                raise Cancelled(cancel.reason or "system_error") from None
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
