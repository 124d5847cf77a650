"""What a running server tells from outside: metrics of what clients did, audit lines of connections that were refused,
and log lines with the generation's id."""

import asyncio
import json
import logging
import re
import threading

from prometheus_client.parser import text_string_to_metric_families

from harmonia_lab.cli.log_format import JsonLines, PlainLines
from harmonia_lab.log_context import GenerationFilter, about
from harmonia_lab.server.audit import AUDIT_FILE
from harmonia_lab.store.journal import Journal
from harmonia_lab.store.metrics import MAX_LABELS, Metrics
from tests.server.conftest import Ear, serving
from tests.server.test_connections import connected
from tests.server.test_http import call
from tests.waiting import until

STORY = {"narrative": "The keeper's secret.", "seconds": 1}


def samples(text):
    return {
        (sample.name.removeprefix("harmonia_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_servers_metrics_tell_what_was_done_by_stage_engine_command_route_and_reason(tmp_path):
    async def main(server):
        async with Ear(server, "ann") as ann:
            await ann.ask("start-generation", STORY | {"generationId": "my-song"})
            url = (await ann.until("audio-generation-complete"))["audioUrl"]
            await ann.ask("leave-generation", "my-song")
            await ann.ask("cancel-generation", {"generationId": "my-song"})
            await ann.ask("ann's own words", {})
        async with Ear(server, "ann") as again:
            await again.ask("join-generation", {"generationId": "my-song", "afterSeq": 1})
            return url, server.lab.metrics.text()

    with serving(tmp_path) as server:
        url, during = asyncio.run(main(server))
        call(server, "GET", url, user=None)
        until(lambda: server.metrics().connections == 0)
        text = call(server, "GET", "/metrics", user=None)[2].decode()
    read = samples(text)
    assert samples(during)[("active_users",)] == 1
    for stage in ("metadata", "audio"):
        assert read[("stage_seconds_count", stage, "fake", "completed")] == 1
    assert read[("commands_total", "start-generation", "ok")] == 1
    assert read[("commands_total", "cancel-generation", "CANCEL_FAILED")] == 1
    assert read[("commands_total", "unknown", "INVALID_PAYLOAD")] == 1
    assert read[("requests_total", "/api/generations/{id}/{file}", "ok")] == 1
    assert read[("downloads_total", "audio")] == 1
    assert (read[("replays_total",)], read[("replayed_events_total",)]) == (1, 3)
    assert sum(value for key, value in read.items() if key[0] == "disconnections_total") == 2
    assert (read[("success_ratio",)], read[("queue_length",)], read[("active_users",)]) == (1, 0, 0)
    assert read[("received_bytes_total",)] > 500
    assert read[("sent_bytes_total", "events")] > 1000
    assert read[("process_resident_bytes",)] > 1e6
    assert not re.search(r"my-song|ann|keeper", text)


def test_names_that_anybody_can_invent_make_no_new_labels():
    metrics = Metrics()
    for number in range(2 * MAX_LABELS):
        metrics.count("recoveries_total", f"plan-{number}")
        metrics.count("disconnections_total", f'x"}} {number}\n')
    text = metrics.text()
    assert text.count("harmonia_recoveries_total{") == MAX_LABELS + 1
    assert samples(text)[("disconnections_total", "other")] == 2 * MAX_LABELS


def test_stages_that_failed_were_cancelled_or_ran_out_of_time_are_told_apart():
    metrics = Metrics()
    engines = {"metadata_engine": "ollama", "audio_engine": "sketch"}
    metrics.attempt(engines | {"status": "failed", "stage": "metadata", "total_s": 3.0})
    metrics.attempt(engines | {"status": "cancelled", "stage": "audio", "total_s": 5.0, "metadata_s": 2.0})
    timeout = {"status": "cancelled", "cancel_reason": "timeout", "stage": "audio", "total_s": 9.0}
    metrics.attempt(engines | timeout)
    read = samples(metrics.text())
    assert read[("stage_seconds_sum", "metadata", "ollama", "failed")] == 3.0
    assert read[("stage_seconds_sum", "audio", "sketch", "cancelled")] == 3.0
    assert read[("stage_seconds_sum", "audio", "sketch", "timeout")] == 9.0


def test_refused_tcp_connections_and_junk_are_in_the_audit_log_and_counted(tmp_path):
    with serving(tmp_path, audit=True, max_connections=1) as server:
        path = tmp_path / "home" / AUDIT_FILE
        with connected(server) as junk:
            junk.sendall(b"\x00\x01 this is no HTTP\r\n\r\n")
            assert b"400" in junk.recv(1000)
        until(lambda: server._app._connections.total == 0)
        held = [connected(server) for _ in range(server.settings.max_tcp_connections)]
        until(lambda: server._app._connections.total == len(held))
        with connected(server) as late:
            assert b"503" in late.recv(1000)
        for each in held:
            each.close()
        until(lambda: path.exists() and path.read_text().count('"connect"') == 2)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        read = samples(server.lab.metrics.text())
    assert [(line["outcome"], line["why"], line["address"]) for line in lines if line["what"] == "connect"] == [
        ("INVALID_PAYLOAD", "unreadable", "127.0.0.1"),
        ("RATE_LIMITED", "server_full", "127.0.0.1"),
    ]
    assert read[("refused_connections_total", "server_full")] == 1


def test_a_share_of_another_process_is_read_from_the_disk_in_a_thread(tmp_path, monkeypatch):
    loaded = []

    async def main(server):
        async with Ear(server, "ann") as ann, Ear(server, "bob") as bob:
            await ann.ask("start-generation", STORY | {"generationId": "g"})
            await ann.until("audio-generation-complete")
            journal = server.lab.journal
            until(lambda: journal.is_at_hand("g"))
            await ann.ask("join-generation", "g")  # behind what the loop still does with the song's end
            journal._reader._at_hand.clear()
            load = journal._reader.read_state

            def watched(one):
                if not journal.is_at_hand(one):
                    loaded.append(threading.current_thread().name)
                return load(one)

            monkeypatch.setattr(journal._reader, "read_state", watched)
            other = Journal(journal.path)
            await asyncio.to_thread(other.shares.add, "g", "bob", "viewer")
            await ann.until("generation-shared")
            other.close()
            assert (await bob.ask("join-generation", "g"))["ok"]

    with serving(tmp_path) as server:
        asyncio.run(main(server))
    assert loaded
    assert "harmonia-server" not in loaded


def record(message, *args, **extra):
    made = logging.LogRecord("harmonia_lab.x", logging.WARNING, "x.py", 1, message, args, extra.get("exc_info"))
    GenerationFilter().filter(made)
    return made


def test_a_line_about_a_generation_carries_its_id_once():
    with about("abc"):
        assert PlainLines().format(record("It went wrong.")) == "harmonia: It went wrong. [generation abc]"
        assert PlainLines().format(record("Generation abc went wrong.")) == "harmonia: Generation abc went wrong."
        facts = json.loads(JsonLines().format(record("It went %s.", "wrong")))
    assert (facts["message"], facts["generationId"], facts["level"]) == ("It went wrong.", "abc", "WARNING")
    assert PlainLines().format(record("Nobody's.")) == "harmonia: Nobody's."
    assert "generationId" not in json.loads(JsonLines().format(record("Nobody's.")))


def test_no_line_of_the_log_moves_a_cursor():
    assert "\x1b" not in PlainLines().format(record("a \x1b[2J b"))
    assert len(JsonLines().format(record("two\nlines \x1b[2J")).splitlines()) == 1


def test_what_a_song_logs_is_known_as_that_songs(tmp_path):
    from tests.server.engines import Writer, make_lab

    seen = []

    class Talker(Writer):
        def write(self, *args):
            made = record("Working.")
            seen.append(made.generation_id)
            return super().write(*args)

    with make_lab(tmp_path, metadata=Talker()) as lab:
        lab.compose("A story.", seconds=1, generation_id="one", progress=False)
    assert seen == ["one"]
