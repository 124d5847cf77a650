"""Stage 1 through Ollama: narrative → metadata, with a model on an Ollama server or on the embedded server.

Owns the engine: the choice of model and prompting strategy, loading and releasing, cancelling, and the record (not
requests: `dialogue.py`, nor addresses: `endpoint.py`, nor prompts: `prompting/`).
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
from harmonia_lab.metadata_engines.embedded.launch import EmbeddedServer
from harmonia_lab.metadata_engines.ollama.dialogue import ModelFacts, OllamaDialogue, Timeouts, translated_errors
from harmonia_lab.metadata_engines.ollama.endpoint import server_address
from harmonia_lab.metadata_engines.prompting import stepwise, structured
from harmonia_lab.protocol.models import SongRequest

__all__ = ["OllamaEngine", "Strategy", "Timeouts", "installed_models"]

Strategy = Literal["auto", "structured", "stepwise"]

_STRATEGIES = {"structured": structured, "stepwise": stepwise}

SMALL = 3.0
"""Billions of parameters; smaller models get the stepwise strategy."""

CONTEXT = 8192
"""Tokens of context for a large model, if it has as many: prompt, story, answer and repairs fit."""

ALIASES = {"minstral3": "ministral-3"}
"""Accepted misspellings of model names."""

RELEASE_S = 5.0
"""Seconds that a release waits until the server has unloaded the model."""

OLLAMA_TOP_LOGPROBS, EMBEDDED_TOP_LOGPROBS = 20, 3000
"""Largest `top_logprobs` of a request: Ollama refuses more."""

SEQUENCES = 8
"""Answers to one question that the embedded server writes at once (`embedded/llama.py` has as many sequences)."""

T = TypeVar("T")


class OllamaEngine:
    """Writes metadata with a language model, on an Ollama server ("ollama") or on the embedded server ("embedded").

    Blocking, one song at a time; `write` runs its own event loop in the caller's thread.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        host: str | None = None,
        endpoint: EmbeddedServer | None = None,
        headers: Mapping[str, str] | None = None,
        strategy: Strategy = "auto",
        options: Mapping[str, Any] | None = None,
        timeouts: Timeouts | None = None,
        pull: bool = False,
    ) -> None:
        """model: its name on the server; None for the endpoint's, or the first installed one that generates text.
        host: in the form of OLLAMA_HOST, which is the default. headers: of each request to it. endpoint: a server that
        the engine starts and ends, instead of `host`. strategy: auto chooses by the model's size. options: Ollama's,
        for every request. pull: whether to download a missing model."""
        self.name = "embedded" if endpoint else "ollama"
        self._endpoint = endpoint
        self._url = server_address(host)
        self._headers = dict(headers or {})
        self._wanted = model or (endpoint.model if endpoint else None)
        self._strategy = strategy
        self._options = dict(options or {})
        self._timeouts = timeouts or Timeouts()
        self._pull = pull
        self._used: str | None = None

    @property
    def model(self) -> str:
        """The model that was used last or will be used; "auto" until the engine has asked the server."""
        return self._used or self._wanted or "auto"

    def write(
        self, request: SongRequest, seed: int, report: Callable[[MetadataProgress], None], cancel: CancelToken
    ) -> MetadataResult:
        """Write the song's metadata. Raises MetadataError, or Cancelled as soon as `cancel` is set."""
        cancel.raise_if_cancelled()
        try:
            return _run(self._write(request, seed, report), cancel)
        except MetadataError as error:
            if error.code in (ErrorCode.OLLAMA_UNAVAILABLE, ErrorCode.OLLAMA_TIMEOUT):
                self._discard_server()
            raise

    def release(self) -> None:
        """Free the model's memory on a server that may share the device with stage 2. Never raises.

        An endpoint's model stays: it takes 0.2 GB of main memory, and the next song starts sooner.
        """
        if not self._used or self._endpoint:
            return
        with (
            contextlib.suppress(HarmoniaError),
            translated_errors(self._url, "while it unloaded the model"),
            _blocking_client(self._url, self._headers, RELEASE_S) as client,
        ):
            client.chat(self._used, messages=[], keep_alive=0)
            deadline = time.monotonic() + RELEASE_S
            while any(entry.model == self._used for entry in client.ps().models) and time.monotonic() < deadline:
                time.sleep(0.05)

    def close(self) -> None:
        """End the endpoint's server. Idempotent."""
        if self._endpoint:
            self._endpoint.close()

    def _discard_server(self) -> None:
        """End the endpoint's server after a failure: the next song starts a new one. Raises what `check` raises."""
        if self._endpoint:
            try:
                self._endpoint.check()
            finally:
                self._endpoint.close()

    async def _write(
        self, request: SongRequest, seed: int, report: Callable[[MetadataProgress], None]
    ) -> MetadataResult:
        begun = time.perf_counter()
        url, headers = self._url, self._headers
        if self._endpoint:
            self._endpoint.start()
            url, headers = self._endpoint.url, dict(self._endpoint.headers)
        timeout = httpx.Timeout(None, connect=self._timeouts.connect)
        async with ollama.AsyncClient(url, headers=headers, timeout=timeout, trust_env=False) as client:
            with translated_errors(url, "before it began"):
                async with asyncio.timeout(self._timeouts.stall):
                    version = await _version(client)
                # The embedded server's first answer comes when its process has started: that wait is load time, too.
                started_s = time.perf_counter() - begun if self._endpoint else 0.0
                model = await self._find_model(client, url, request.model or self._wanted, report)
            self._used = model.name
            strategy = self._choose_strategy(model)
            context = {"num_ctx": min(CONTEXT, model.context or CONTEXT)} if strategy == "structured" else {}
            options = self._options | context
            dialogue = OllamaDialogue(
                client,
                url,
                model,
                seed,
                report,
                max_top_logprobs=EMBEDDED_TOP_LOGPROBS if self._endpoint else OLLAMA_TOP_LOGPROBS,
                # Three characters a token are safe for most languages; half of the context is for prompt and answer.
                max_story_characters=int(options.get("num_ctx", 2048)) * 3 // 2,
                timeouts=self._timeouts,
                options=options,
                at_once=SEQUENCES if self._endpoint else 1,
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
        """Return the wanted model, downloaded if necessary and allowed, or the first one that generates text.

        Raises MetadataError (OLLAMA_MODEL_MISSING).
        """
        async with asyncio.timeout(self._timeouts.stall):
            digests = {entry.model: entry.digest for entry in (await client.list()).models if entry.model}
        names = list(digests)
        if wanted:
            name = match_name(wanted, names)
            if not name and not self._pull:
                raise _missing_model(f"The model {wanted} is not installed at {url}.", names, wanted)
            names = [name or await self._download(client, wanted, report)]
        candidates = []
        for name in names:
            async with asyncio.timeout(self._timeouts.stall):
                shown = await client.show(name)
            if wanted or shown.capabilities is None or "completion" in shown.capabilities:
                candidates.append(_facts(name, digests.get(name), shown))
        if not candidates:
            raise _missing_model(f"The Ollama server at {url} has no model that generates text.", names)
        large = [facts for facts in candidates if facts.billions is None or facts.billions >= SMALL]
        return (large or candidates)[0]

    async def _download(self, client: ollama.AsyncClient, name: str, report: Callable[[MetadataProgress], None]) -> str:
        name = ALIASES.get(name, name)
        async with asyncio.timeout(self._timeouts.stall) as limit:
            async for part in await client.pull(name, stream=True):
                limit.reschedule(asyncio.get_running_loop().time() + self._timeouts.stall)
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
    """Return the names of the models on an Ollama server, last changed first. Raises MetadataError if none answers.

    Blocking and without an event loop, so that a notebook's cell can call it: its kernel runs a loop already.
    """
    url = server_address(host)
    with translated_errors(url, "while it listed its models"), _blocking_client(url, {}, timeout_s) as client:
        return [entry.model for entry in client.list().models if entry.model]


def match_name(wanted: str, installed: Sequence[str]) -> str | None:
    """Return the installed name of `wanted`: itself, with the tag `latest`, or, if it has no tag, with any tag."""
    name = ALIASES.get(wanted, wanted)
    for candidate in (name, f"{name}:latest"):
        if candidate in installed:
            return candidate
    return next((other for other in installed if ":" not in name and other.startswith(f"{name}:")), None)


def _missing_model(message: str, installed: Sequence[str], wanted: str | None = None) -> MetadataError:
    return MetadataError(
        f"{message} Installed: {', '.join(installed) or 'none'}.",
        code=ErrorCode.OLLAMA_MODEL_MISSING,
        hint=f"run: ollama pull {ALIASES.get(wanted, wanted) if wanted else 'ministral-3'}",
        details={"installed": list(installed)} | ({"model": wanted} if wanted else {}),
    )


def _blocking_client(url: str, headers: Mapping[str, str], timeout_s: float) -> ollama.Client:
    return ollama.Client(url, headers=dict(headers), timeout=timeout_s, trust_env=False)


async def _version(client: ollama.AsyncClient) -> str | None:
    # The client has no public call for it, and its private methods are not typed.
    response: httpx.Response = await client._request_raw("GET", "/api/version")  # type: ignore[no-untyped-call]  # noqa: SLF001
    version = response.json().get("version")
    return str(version) if version else None


def _facts(name: str, digest: str | None, shown: ollama.ShowResponse) -> ModelFacts:
    details, info = shown.details, dict(shown.modelinfo or {})
    size = details.parameter_size if details else None
    count = info.get("general.parameter_count")
    context = next((value for key, value in info.items() if key.endswith(".context_length")), None)
    return ModelFacts(
        name,
        digest,
        details.quantization_level if details else None,
        size,
        count / 1e9 if isinstance(count, int | float) and count > 0 else billions(size),
        int(context) if isinstance(context, int | float) else None,
        "thinking" in (shown.capabilities or ()),
    )


def billions(size: str | None) -> float | None:
    """Return the billions of parameters of a size such as "135M", "3.2B" or "8x7B"; None for another text."""
    match = re.fullmatch(r"(?:(\d+)x)?(\d+(?:\.\d+)?)\s*([KMBT])", (size or "").strip(), re.IGNORECASE)
    if not match:
        return None
    return int(match[1] or 1) * float(match[2]) * {"K": 1e-6, "M": 1e-3, "B": 1.0, "T": 1e3}[match[3].upper()]


def _run(work: Awaitable[T], cancel: CancelToken) -> T:
    """Run a coroutine in a new event loop. Raises Cancelled as soon as `cancel` is set, wherever the coroutine waits.

    Not `asyncio.run`, which would wait for the executor's threads: a name lookup in one may take long.
    """
    loop = asyncio.new_event_loop()
    try:
        task = asyncio.ensure_future(work, loop=loop)

        def stop() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the coroutine has ended
                loop.call_soon_threadsafe(task.cancel)

        with cancel.on_cancel(stop):
            try:
                return loop.run_until_complete(task)
            except asyncio.CancelledError:
                raise Cancelled(cancel.reason or "system_error") from None
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
