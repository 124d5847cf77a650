"""Stage 1 through Ollama: finds server and model, loads it, lets a prompting strategy write, and says what failed.

Owns the connection's life: which model, its load and release, a cancel that reaches it while it blocks, and what the
client's many exceptions mean. One exchange with the model is `conversation.py`; what is asked is `prompting/`.

Facts about the client (ollama 0.6.3) that shape this: a server that is down raises ConnectionError, but raw
`httpx.ConnectError` when streaming; an error inside a stream is a ResponseError with status −1; there is no default
timeout; `trust_env` would send loopback traffic to a proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
import ollama
import pydantic

from harmonia_lab.engines.base import CancelToken, MetadataProgress, MetadataResult
from harmonia_lab.engines.conversation import Conversation
from harmonia_lab.engines.prompting import stepwise, structured
from harmonia_lab.errors import ErrorCode, MetadataError
from harmonia_lab.protocol.models import SongMetadata, SongRequest

__all__ = ["DEFAULT_ADDRESS", "Endpoint", "OllamaEngine", "installed_models", "server_address"]

DEFAULT_ADDRESS = "http://127.0.0.1:11434"

ALIASES = {"minstral3": "ministral-3"}
"""Names that clients in the field send, and what they mean."""

SMALL_MODEL_PARAMETERS = 3e9
"""Below this, a model is asked step by step: one big structured answer is more than it can hold together."""

LOAD_TIMEOUT_S = 600.0
"""A big model from a slow disk. The stage's own time limit stands above it."""

CONNECT_TIMEOUT_S = 5.0


class Endpoint(Protocol):
    """A server that the engine starts and ends itself, such as `embedded.EmbeddedServer`."""

    model: str

    @property
    def url(self) -> str: ...
    @property
    def headers(self) -> dict[str, str]: ...
    def start(self) -> None: ...
    def check(self) -> None: ...
    def record(self) -> dict[str, Any]: ...
    def close(self) -> None: ...


def server_address() -> str:
    """Where Ollama is to be found: `OLLAMA_HOST` as Ollama reads it, else 127.0.0.1:11434."""
    given = os.environ.get("OLLAMA_HOST", "").strip().strip("\"'")
    if not given:
        return DEFAULT_ADDRESS
    parts = urlsplit(given if "://" in given else f"http://{given}")
    here = (None, "0.0.0.0", "::")  # noqa: S104 - what a server is told to listen on, and clients find in the variable
    host = "127.0.0.1" if parts.hostname in here else parts.hostname
    default = {"http": 80, "https": 443}.get(parts.scheme, 11434) if "://" in given else 11434
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{parts.port or default}{parts.path.rstrip('/')}"


def installed_models(address: str, timeout_s: float = 1.0) -> list[str]:
    """The models that can chat, latest first. Raises MetadataError where no Ollama answers within `timeout_s`."""
    with _translated(address):
        client = ollama.Client(address, timeout=timeout_s, trust_env=_trusts_proxies(address))
        with contextlib.closing(client):
            return _chat_models(client.list())


class OllamaEngine:
    """A `MetadataEngine`, for a server that is there (`address`) or one of our own (`endpoint`)."""

    def __init__(
        self,
        address: str | None = None,
        *,
        endpoint: Endpoint | None = None,
        model: str | None = None,
        strategy: str = "auto",
        pull: bool = False,
        stall_s: float = 60.0,
    ) -> None:
        """model: its name on the server; None takes the latest that can chat. strategy: "auto" (by the model's size),
        "structured" (one reply) or "stepwise". pull: whether a missing model may be downloaded. stall_s: seconds
        without a new token after which the server counts as hanging.
        """
        if strategy not in ("auto", "structured", "stepwise"):
            raise ValueError(f"no strategy {strategy!r}: auto, structured or stepwise")
        self.name = "ollama" if endpoint is None else "embedded"
        self._address = address or server_address()
        self._endpoint = endpoint
        self._model = model if endpoint is None else endpoint.model
        self._strategy = strategy
        self._pull = pull
        self._stall_s = stall_s

    @property
    def model(self) -> str:
        """Raises MetadataError where it is still to be chosen and the server is down or has none."""
        if self._model is None:
            models = installed_models(self._address)
            if not models:
                raise MetadataError(
                    f"Ollama at {self._address} has no model that can chat.",
                    code=ErrorCode.OLLAMA_MODEL_MISSING,
                    hint="Get one: ollama pull MODEL",
                )
            self._model = models[0]
        return ALIASES.get(self._model, self._model)

    def write(
        self, request: SongRequest, seed: int, report: Callable[[MetadataProgress], None], cancel: CancelToken
    ) -> MetadataResult:
        async def main() -> MetadataResult:
            task, loop = asyncio.current_task(), asyncio.get_running_loop()
            assert task is not None

            def stop() -> None:
                with contextlib.suppress(RuntimeError):  # the loop ended at the same moment
                    loop.call_soon_threadsafe(task.cancel)

            with cancel.on_cancel(stop):
                try:
                    return await self._write(request, seed, report, cancel)
                except asyncio.CancelledError:
                    cancel.raise_if_cancelled()
                    raise

        return asyncio.run(main())

    def release(self) -> None:
        """Unloads the model and waits until the server says so, 10 s at most."""

        async def unload() -> None:
            async with self._client() as client:
                await client.chat(self.model, messages=[], keep_alive=0)
                while any(loaded.model == self.model for loaded in (await client.ps()).models):  # noqa: ASYNC110 - it can only be asked
                    await asyncio.sleep(0.1)

        with contextlib.suppress(MetadataError, TimeoutError), self._explained():
            asyncio.run(asyncio.wait_for(unload(), 10.0))

    def close(self) -> None:
        if self._endpoint is not None:
            self._endpoint.close()

    async def _write(
        self, request: SongRequest, seed: int, report: Callable[[MetadataProgress], None], cancel: CancelToken
    ) -> MetadataResult:
        model = ALIASES.get(request.model, request.model) if request.model and self._endpoint is None else self.model
        if self._endpoint is not None:
            self._endpoint.start()
        with self._explained():
            async with self._client() as client:
                conversation = Conversation(client, model, seed, report, cancel, self._stall_s)
                conversation.report(0.0, "analysis", f"Loading {model}...")
                details = await self._details(client, model, conversation)
                load_s = await _load(client, model)
                strategy = self._strategy_for(details)
                conversation.describe(
                    most_alternatives=3000 if self._endpoint is not None else 20,
                    context_length=_context_length(details),
                    thinks="thinking" in (details.capabilities or ()),
                )
                write = stepwise.write_song if strategy == "stepwise" else structured.write_song
                metadata: SongMetadata = await write(conversation, request, seed)
                record = await self._record(client, model, details)
        version = stepwise.VERSION if strategy == "stepwise" else structured.VERSION
        return MetadataResult(
            metadata,
            conversation.transcript,
            record | {"strategy": strategy, "template_version": version},
            load_s,
            conversation.time_to_first_token_s,
            conversation.tokens,
            conversation.tokens_per_second,
        )

    async def _details(self, client: ollama.AsyncClient, model: str, conversation: Conversation) -> ollama.ShowResponse:
        """What the server knows of the model, which is pulled first where that is allowed. Raises MetadataError."""
        try:
            return await asyncio.wait_for(client.show(model), self._stall_s)
        except ollama.ResponseError as error:
            if error.status_code != httpx.codes.NOT_FOUND:
                raise
        if not self._pull:
            known = ", ".join(_chat_models(await client.list())) or "none"
            raise MetadataError(
                f"The model {model} is not installed on {self._where}. Installed: {known}.",
                code=ErrorCode.OLLAMA_MODEL_MISSING,
                hint=f"Get it: ollama pull {model}",
                details={"model": model},
            )
        try:
            async for step in await client.pull(model, stream=True):
                share = f" {100 * (step.completed or 0) // step.total} %" if step.total else ""
                conversation.report(0.0, "analysis", f"Pulling {model}: {step.status}{share}")
        except ollama.ResponseError as error:
            raise MetadataError(
                f"The model {model} could not be pulled to {self._where}: {error.error}.",
                code=ErrorCode.OLLAMA_MODEL_MISSING,
                hint=f"Check the name, then try: ollama pull {model}",
                details={"model": model},
            ) from error
        return await asyncio.wait_for(client.show(model), self._stall_s)

    async def _record(self, client: ollama.AsyncClient, model: str, details: ollama.ShowResponse) -> dict[str, Any]:
        listed = {entry.model: entry for entry in (await client.list()).models}
        entry = listed.get(model) or listed.get(f"{model}:latest")
        described = details.details
        record: dict[str, Any] = {
            "model": model,
            "digest": entry.digest if entry else None,
            "quantization": described.quantization_level if described else None,
            "parameter_size": described.parameter_size if described else None,
            "family": described.family if described else None,
            "server_version": await self._server_version(),
        }
        return record | (self._endpoint.record() if self._endpoint is not None else {})

    async def _server_version(self) -> str | None:
        """The client has no call for it; a server without the route is no reason to lose a song."""
        async with httpx.AsyncClient(base_url=self._url, headers=self._headers, **self._transport()) as client:
            try:
                return str((await client.get("/api/version")).json()["version"])
            except (httpx.HTTPError, ValueError, KeyError, TypeError):
                return None

    def _strategy_for(self, details: ollama.ShowResponse) -> str:
        if self._strategy != "auto":
            return self._strategy
        parameters = _parameters(details)
        return "stepwise" if parameters is not None and parameters < SMALL_MODEL_PARAMETERS else "structured"

    @property
    def _url(self) -> str:
        return self._endpoint.url if self._endpoint is not None else self._address

    @property
    def _headers(self) -> dict[str, str]:
        return self._endpoint.headers if self._endpoint is not None else {}

    @property
    def _where(self) -> str:
        return "the embedded server" if self._endpoint is not None else f"Ollama at {self._address}"

    def _transport(self) -> dict[str, Any]:
        return {"timeout": httpx.Timeout(None, connect=CONNECT_TIMEOUT_S), "trust_env": _trusts_proxies(self._url)}

    @contextlib.asynccontextmanager
    async def _client(self) -> AsyncIterator[ollama.AsyncClient]:
        client = ollama.AsyncClient(self._url, headers=self._headers, **self._transport())
        try:
            yield client
        finally:
            await client.close()  # type: ignore[no-untyped-call]

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """As `_translated`; a server of our own that died says its last words."""
        try:
            with _translated(self._address if self._endpoint is None else ""):
                yield
        except MetadataError as error:
            if self._endpoint is not None and error.code is ErrorCode.OLLAMA_UNAVAILABLE:
                self._endpoint.check()
            raise


async def _load(client: ollama.AsyncClient, model: str) -> float:
    """Seconds that it took; next to none where it was loaded already."""
    started = time.perf_counter()
    await asyncio.wait_for(client.chat(model, messages=[]), LOAD_TIMEOUT_S)
    return round(time.perf_counter() - started, 6)


def _chat_models(listed: ollama.ListResponse) -> list[str]:
    """Embedding models are left out."""
    return [
        entry.model
        for entry in listed.models
        if entry.model
        and "embed" not in entry.model
        and (not entry.details or "bert" not in (entry.details.family or ""))
    ]


def _parameters(details: ollama.ShowResponse) -> float | None:
    exact = (details.modelinfo or {}).get("general.parameter_count")
    if exact:
        return float(exact)
    size = re.fullmatch(r"([\d.]+)\s*([KMBT])", (details.details.parameter_size or "") if details.details else "")
    return float(size[1]) * {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}[size[2]] if size else None


def _context_length(details: ollama.ShowResponse) -> int:
    lengths = [value for key, value in (details.modelinfo or {}).items() if key.endswith(".context_length")]
    return int(lengths[0]) if lengths and lengths[0] else 4096


def _trusts_proxies(address: str) -> bool:
    return urlsplit(address).hostname not in ("127.0.0.1", "localhost", "::1")


@contextlib.contextmanager
def _translated(address: str) -> Iterator[None]:
    """Turns what the client raises into a MetadataError that names the server and says what to do.

    address: empty for the embedded server.
    """
    where = f"Ollama at {address}" if address else "The embedded language model's server"
    start = "Start it (ollama serve), or set OLLAMA_HOST to where it runs." if address else "Try again."

    def error(code: ErrorCode, message: str, hint: str = start) -> MetadataError:
        return MetadataError(f"{where} {message}", code=code, hint=hint, details={"server": address or "embedded"})

    try:
        yield
    except (ConnectionError, httpx.ConnectError, httpx.ConnectTimeout) as cause:
        raise error(ErrorCode.OLLAMA_UNAVAILABLE, "does not answer.") from cause
    except (httpx.TimeoutException, TimeoutError) as cause:
        raise error(ErrorCode.OLLAMA_TIMEOUT, "stopped answering.", "Try again, or use a smaller model.") from cause
    except httpx.TransportError as cause:
        raise error(ErrorCode.OLLAMA_UNAVAILABLE, "went away in the middle of an answer.") from cause
    except ollama.ResponseError as cause:
        said = " ".join(cause.error.split())[:200]
        page = said.startswith("<")
        message = "answered with a web page." if page else f"answered with an error: {said}"
        hint = (
            "Check that OLLAMA_HOST is Ollama itself, not a proxy or a web site." if page else "See the server's log."
        )
        raise error(ErrorCode.OLLAMA_UNAVAILABLE, message, hint) from cause
    except (pydantic.ValidationError, ValueError, KeyError, TypeError) as cause:
        if isinstance(cause, MetadataError):
            raise
        hint = "Check that OLLAMA_HOST is Ollama itself, not a proxy or a web site."
        raise error(ErrorCode.OLLAMA_UNAVAILABLE, "answered something that is not Ollama's.", hint) from cause
