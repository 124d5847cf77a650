"""Stage 1 through Ollama: narrative → metadata, with a model on an Ollama server or on the embedded server.

Owns the engine: the prompting strategy, loading and releasing, cancelling, and the record (not requests: `dialogue.py`,
nor the way to the server: `connection.py`, nor the choice of a model: `models.py`, nor prompts: `prompting/`).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from harmonia_lab.engines.base import CancelToken, MetadataProgress, MetadataResult, Remedy
from harmonia_lab.errors import Cancelled, ErrorCode, HarmoniaError, MetadataError
from harmonia_lab.metadata_engines.embedded.launch import EmbeddedServer
from harmonia_lab.metadata_engines.ollama.busy import Say
from harmonia_lab.metadata_engines.ollama.connection import ServerConnection
from harmonia_lab.metadata_engines.ollama.context import context_size
from harmonia_lab.metadata_engines.ollama.dialogue import KnownAnswers, OllamaDialogue
from harmonia_lab.metadata_engines.ollama.endpoint import Endpoint, read_endpoint
from harmonia_lab.metadata_engines.ollama.failures import translated_errors
from harmonia_lab.metadata_engines.ollama.models import SMALL, ModelFacts, Models
from harmonia_lab.metadata_engines.ollama.restart import run_restart
from harmonia_lab.metadata_engines.ollama.settings import OllamaSettings, Timeouts
from harmonia_lab.metadata_engines.prompting import stepwise, structured
from harmonia_lab.music.seeds import derive_seed
from harmonia_lab.protocol.models import SongRequest

__all__ = ["OllamaEngine", "Timeouts", "installed_models"]

_STRATEGIES = {"structured": structured, "stepwise": stepwise}

RELEASE_S = 5.0
"""Seconds that a release waits until the server has unloaded the model."""

OLLAMA_TOP_LOGPROBS, EMBEDDED_TOP_LOGPROBS = 20, 3000
"""Largest `top_logprobs` of a request: Ollama refuses more."""

SEQUENCES = 8
"""Answers to one question that the embedded server writes at once (`embedded/llama.py` has as many sequences)."""

_GONE = (ErrorCode.OLLAMA_UNAVAILABLE, ErrorCode.OLLAMA_TIMEOUT)

T = TypeVar("T")


class OllamaEngine:
    """Writes metadata with a language model, on an Ollama server ("ollama") or on the embedded server ("embedded").

    Blocking, one song at a time; `write` runs its own event loop in the caller's thread.
    """

    def __init__(self, model: str | None = None, *, endpoint: EmbeddedServer | None = None, **settings: Any) -> None:
        """model: its name on the server; None for the endpoint's, or the first installed one that generates text.
        endpoint: a server that the engine starts and ends, instead of one by an address. settings: as `OllamaSettings`.

        Raises InvalidRequest for a setting, MetadataError (OLLAMA_SETTINGS) for an address that can't be used.
        """
        self.name = "embedded" if endpoint else "ollama"
        self._endpoint = endpoint
        self._settings = OllamaSettings.of(settings)
        self._address = Endpoint("") if endpoint else read_endpoint(self._settings.host)
        self._wanted = model or (endpoint.model if endpoint else None)
        self._used: str | None = None
        self._model = model
        self._unfinished: tuple[Any, KnownAnswers] = (None, {})
        """The song whose writing failed last, and the answers to it so far."""

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
            result = _run(self._write(request, seed, report), cancel)
        except MetadataError as error:
            if error.code == ErrorCode.METADATA_INVALID:
                self._unfinished = (None, {})  # the same answers would be no use again
            if error.code in _GONE:
                self._discard_server()
            raise
        self._unfinished = (None, {})
        return result

    def recover(self, error: HarmoniaError, attempt: int, cancel: CancelToken) -> Remedy | None:
        """Tell that the endpoint's server is started again (`write` has ended the failed one); for a service, run the
        command that is set for it (`restart`), once reconnecting alone has not helped."""
        if error.code not in _GONE:
            return None
        if self._endpoint:
            return Remedy("restart", "Starting the embedded language model again...")
        if self._settings.restart is None or attempt == 1:
            return None
        run_restart(self._settings.restart, cancel)
        return Remedy("restart", "The language model's server was started again...")

    def fresh(self) -> OllamaEngine:
        """Return an engine like this one with its own server, if it has one. This one's is ended."""
        if not self._endpoint:
            return OllamaEngine(self._model, **vars(self._settings))
        threading.Thread(target=self._endpoint.close, name="harmonia-end-server", daemon=True).start()
        return OllamaEngine(self._model, endpoint=EmbeddedServer(self._endpoint.threads), **vars(self._settings))

    def release(self) -> None:
        """Free the model's memory on a server that may share the device with stage 2. Never raises.

        An endpoint's model stays: it takes 0.2 GB of main memory, and the next song starts sooner.
        """
        if not self._used or self._endpoint:
            return
        with (
            contextlib.suppress(HarmoniaError),
            translated_errors(self._address.url, "while it unloaded the model"),
            ServerConnection(self._address, self._settings).blocking_client(RELEASE_S) as client,
        ):
            client.chat(self._used, messages=[], keep_alive=0)
            deadline = time.monotonic() + RELEASE_S
            while any(entry.model == self._used for entry in client.ps().models) and time.monotonic() < deadline:
                time.sleep(0.05)

    def process_ids(self) -> Sequence[int]:
        """Return the id of the endpoint's process. A server elsewhere has none here."""
        return self._endpoint.process_ids() if self._endpoint else ()

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

    def _connection(self) -> ServerConnection:
        """Return the way to the server; an endpoint's is started first."""
        if not self._endpoint:
            return ServerConnection(self._address, self._settings)
        self._endpoint.start()
        return ServerConnection(Endpoint(self._endpoint.url), self._settings, self._endpoint.headers)

    async def _write(
        self, request: SongRequest, seed: int, report: Callable[[MetadataProgress], None]
    ) -> MetadataResult:
        begun = time.perf_counter()
        connection, timeouts = self._connection(), self._settings.timeouts
        async with connection.client() as client:
            models = Models(client, connection.where, timeouts, _say_to(report))
            with translated_errors(connection.where, "before it began"):
                version = await models.version()
                # The embedded server's first answer comes when its process has started: that wait is load time, too.
                started_s = time.perf_counter() - begun if self._endpoint else 0.0
                model = await models.find(request.model or self._wanted, pull=self._settings.pull)
            self._used = model.name
            strategy = self._choose_strategy(model)
            options, story_bytes = self._options(model, strategy, request)
            dialogue = OllamaDialogue(
                client,
                connection.where,
                model,
                # Two stories that a model can't read would else be one prompt with one seed, and so one song.
                derive_seed(seed, request.narrative),
                report,
                max_top_logprobs=EMBEDDED_TOP_LOGPROBS if self._endpoint else OLLAMA_TOP_LOGPROBS,
                max_story_characters=story_bytes,
                settings=self._settings,
                options=options,
                at_once=SEQUENCES if self._endpoint else 1,
                known=self._known((request, seed, model, strategy)),
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

    def _known(self, song: object) -> KnownAnswers:
        """Return the answers that an attempt at this song had before it failed. song: all that they depend on."""
        if self._unfinished[0] != song:
            self._unfinished = (song, {})
        return self._unfinished[1]

    def _options(self, model: ModelFacts, strategy: str, request: SongRequest) -> tuple[dict[str, Any], int]:
        """Return the options of every request, and the bytes of a story that fit into one."""
        options = dict(self._settings.options)
        answer = structured.answer_tokens(request)
        size = context_size(model, request.narrative, answer, options.get("num_ctx"))
        return (options | {"num_ctx": size.num_ctx} if strategy == "structured" else options), size.story_bytes

    def _choose_strategy(self, model: ModelFacts) -> str:
        if self._settings.strategy != "auto":
            return self._settings.strategy
        # A model that always thinks can't answer with the single tokens of the stepwise strategy.
        small = model.billions is not None and model.billions < SMALL and not model.has_levels
        return "stepwise" if small else "structured"

    def _record(
        self, model: ModelFacts, strategy: str, version: str | None, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        settings = self._settings.record()
        return {
            **(self._endpoint.record() if self._endpoint else {"host": self._address.url}),
            "model": model.name,
            "digest": model.digest,
            "quantization": model.quantization,
            "parameterSize": model.parameter_size,
            "serverVersion": version,
            "client": f"ollama {importlib.metadata.version('ollama')}",
            "strategy": strategy,
            "templateVersion": _STRATEGIES[strategy].template_version(),
            "options": dict(options),
            **({"settings": settings} if settings else {}),
        }


def _say_to(report: Callable[[MetadataProgress], None]) -> Say:
    """Return what reports before there is a dialogue."""
    return lambda status, failure=None: report(MetadataProgress(0.0, "analysis", status, failure=failure))


def installed_models(
    settings: Mapping[str, Any] | None = None, timeout_s: float = 3.0, connect_s: float | None = None
) -> list[str]:
    """Return the names of the models on an Ollama server, last changed first. Raises MetadataError if none answers.

    Blocking and without an event loop, so that a notebook's cell can call it: its kernel runs a loop already.
    settings: as `OllamaSettings`.
    """
    given = OllamaSettings.of(settings or {})
    connection = ServerConnection(read_endpoint(given.host), given)
    with (
        translated_errors(connection.where, "while it listed its models"),
        connection.blocking_client(timeout_s, connect_s) as client,
    ):
        return [entry.model for entry in client.list().models if entry.model]


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
