"""Faults are posted to a configured URL: without words, in the background, and whether it answers or not."""

import asyncio
import http.server
import json
import threading
import time

import pytest

from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest, MetadataError, StorageError
from harmonia_lab.protocol.events import ErrorInfo, GenerationError
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.server.webhook import MAX_QUEUED, Webhook
from tests.server.conftest import Ear, serving
from tests.server.engines import Writer
from tests.waiting import until

STORY = "the lighthouse keeper's secret"


class Receiver:
    """A real HTTP server. statuses: its answers, in order; then 204. hang: an event that it waits for first."""

    def __init__(self, *statuses, hang=None):
        self.got, rest = [], list(statuses)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(handler):  # noqa: N805 - `self` is the receiver
                body = handler.rfile.read(int(handler.headers["Content-Length"]))
                self.got.append(json.loads(body))
                if hang is not None:
                    hang.wait(60)
                handler.send_response(rest.pop(0) if rest else 204)
                handler.end_headers()

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?key=s3cret"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def failed(code, generation_id="g", *, final=True):
    info = ErrorInfo.of(HarmoniaError(f"{STORY} failed", code=code))
    return GenerationError(generation_id=generation_id, error=info, stage="audio", final=final)


def test_a_defect_in_a_song_is_posted_with_its_id_and_without_a_word_of_it(tmp_path):
    async def main(server, *answers):
        async with Ear(server) as ear:
            for number in range(2):
                await ear.ask("start-generation", {"narrative": STORY, "seconds": 1, "generationId": f"song-{number}"})
            await ear.until("generation-error", count=2)

    errors = [ZeroDivisionError(STORY), MetadataError(STORY)]
    with Receiver() as hook, serving(tmp_path, metadata=Writer(errors=errors), webhook=hook.url) as server:
        asyncio.run(main(server))
        until(lambda: hook.got)
        metrics = server.lab.metrics.text()
    (message,) = hook.got  # METADATA_INVALID is the song's own affair
    assert message["code"] == "INTERNAL"
    assert message["generationId"] == "song-0"
    assert "INTERNAL in stage metadata, generation song-0" in message["text"]
    assert "lighthouse" not in json.dumps(message)
    assert 'harmonia_webhook_calls_total{outcome="failed"} 0' in metrics


def test_it_is_tried_again_until_it_is_taken():
    counted = []
    with Receiver(500, 503) as hook:
        webhook = Webhook(hook.url, counted.append, waits_s=(0.01, 0.01, 0.01))
        webhook(failed("STORAGE_FULL"))
        until(lambda: counted)
        webhook.close()
    assert counted == ["ok"]
    assert [each["code"] for each in hook.got] == ["STORAGE_FULL"] * 3


def test_what_it_refuses_is_not_tried_again_and_its_address_is_not_logged(caplog):
    counted = []
    with Receiver(404) as hook:
        webhook = Webhook(hook.url, counted.append, waits_s=(0.01,))
        webhook.tell("QUARANTINED", where="a test")
        until(lambda: counted)
        webhook.close()
    assert (counted, len(hook.got)) == (["failed"], 1)
    assert "it answered 404" in caplog.text
    assert "s3cret" not in caplog.text


def test_only_the_three_faults_at_a_songs_end_and_each_kind_once_a_minute():
    counted = []
    with Receiver() as hook:
        webhook = Webhook(hook.url, counted.append)
        webhook(failed("AUDIO_ERROR"))
        webhook(failed("STORAGE_FULL", final=False))
        for number in range(50):
            webhook(failed("STORAGE_FULL", f"g{number}"))
        webhook.close()
    assert [each["generationId"] for each in hook.got] == ["g0"]


def test_a_webhook_that_hangs_holds_up_nobody_and_nothing_piles_up(tmp_path):
    hang, counted = threading.Event(), []
    with Receiver(hang=hang) as hook:
        webhook = Webhook(hook.url, counted.append)
        webhook(failed("INTERNAL"))
        until(lambda: hook.got)
        began = time.monotonic()
        for number in range(2 * MAX_QUEUED):
            webhook.tell(f"CODE_{number}", where="a test")
        assert time.monotonic() - began < 5  # it would be 60 s for each
        assert counted == ["dropped"] * MAX_QUEUED
        hang.set()


def test_nothing_listening_is_no_error_for_the_song(tmp_path):
    errors = [StorageError("No space.", code=ErrorCode.STORAGE_FULL)]

    async def main(server):
        async with Ear(server) as ear:
            await ear.ask("start-generation", {"narrative": STORY, "seconds": 1, "generationId": "a"})
            await ear.until("generation-error")
            await ear.ask("start-generation", {"narrative": STORY, "seconds": 1, "generationId": "b"})
            await ear.until("audio-generation-complete")

    with serving(tmp_path, metadata=Writer(errors=errors), webhook="http://127.0.0.1:9/") as server:
        asyncio.run(main(server))


@pytest.mark.parametrize("url", ["", "ftp://x", "https://", "javascript:alert(1)", "http://[::1"])
def test_what_is_no_web_address_is_refused(url):
    with pytest.raises(InvalidRequest, match="webhook must be http"):
        ServerSettings(webhook=url)


def test_the_address_is_in_no_printed_settings():
    assert "s3cret" not in repr(ServerSettings(webhook="https://chat.example/s3cret"))
