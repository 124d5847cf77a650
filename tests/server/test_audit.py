"""The audit log: who did what and how it ended, without a word of what was told or sung."""

import asyncio
import errno
import json
import os
import re

import pytest
import socketio

from harmonia_lab.errors import StorageError
from harmonia_lab.server import audit
from harmonia_lab.server.audit import AUDIT_FILE, AuditLog
from tests.server.conftest import Ear, serving
from tests.server.engines import METADATA
from tests.server.test_http import call
from tests.waiting import until


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def log_of(path, **options):
    return AuditLog(path, **{"max_bytes": 10_000, "kept": 2} | options)


def test_every_connection_command_and_call_is_a_line_with_its_outcome_and_no_words(tmp_path):
    path = tmp_path / "home" / AUDIT_FILE
    secret = "the lighthouse keeper's secret"

    async def main(server):
        with pytest.raises(socketio.exceptions.ConnectionError):
            async with Ear(server, token="a.b.c"):
                pass
        async with Ear(server, "ann") as ann:
            await ann.ask("start-generation", {"narrative": secret, "seconds": 1, "generationId": "g"})
            url = (await ann.until("audio-generation-complete"))["audioUrl"]
            await ann.ask("join-generation", {"generationId": "nothing", "narrative": secret})
            await ann.ask("leave-generation", "g")
            await ann.ask("retry-generation", {"generationId": "g"})
            await ann.ask("share-generation", {"generationId": "g", "userId": "bob", "role": "controller"})
            await ann.ask("start-generation", {"narrative": secret, "bpm": secret})
            await ann.ask(secret, {})
            await ann.ask("refresh-token", {"token": ann.token})
            for args in (("GET", url), ("DELETE", "/api/generations/g"), ("GET", f"/{secret.split()[1]}")):
                await asyncio.to_thread(call, server, *args, user=None if args[1] == url else "ann")
            await asyncio.to_thread(call, server, "GET", "/api/generations", user=None)
            await asyncio.to_thread(call, server, "GET", "/api/generations", token="x.y.z")
            unshare = "/api/generations/g/shares?userId=bob"
            await asyncio.to_thread(call, server, "DELETE", unshare)
            polling = "/socket.io/?EIO=4&transport=polling"
            await asyncio.to_thread(call, server, "GET", polling, user=None, headers={"Origin": "https://evil.example"})
            tokens = [ann.token, url.rpartition("=")[2]]
            server.revoke("ann")
            await ann.gone.wait()
        return tokens

    with serving(tmp_path, audit=True) as server:
        tokens = asyncio.run(main(server))
        server.stop()
        lines, text = lines_of(path), path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    for words in (secret, "keeper", METADATA.title, "tide", "narrative", *tokens):
        assert words not in text, words
    said = [(line["what"], line["outcome"]) for line in lines]
    for expected in (
        ("connect", "UNAUTHORIZED"),
        ("connect", "ok"),
        ("start-generation", "ok"),
        ("join-generation", "ok"),
        ("leave-generation", "ok"),
        ("retry-generation", "NOT_RECOVERABLE"),
        ("share-generation", "ok"),
        ("start-generation", "INVALID_PAYLOAD"),
        ("unknown", "INVALID_PAYLOAD"),
        ("refresh-token", "ok"),
        ("GET /api/generations/{id}/{file}", "ok"),
        ("DELETE /api/generations/{id}", "CANCEL_FAILED"),
        ("GET unknown", "NOT_FOUND"),
        ("GET /api/generations", "UNAUTHORIZED"),
        ("revoked", "ok"),
        ("disconnect", "ok"),
    ):
        assert expected in said, expected
    refused = [line for line in lines if line["what"].startswith("GET /socket.io") and line["status"] == 400]
    assert [line["outcome"] for line in refused] == ["refused"]
    assert lines[0]["why"] == "The token is not valid: malformed."
    assert lines[0]["address"] == "127.0.0.1"
    download = next(line for line in lines if line["what"] == "GET /api/generations/{id}/{file}")
    started = next(line for line in lines if line["what"] == "start-generation")
    assert [download[name] for name in ("user", "generation", "status", "file")] == ["ann", "g", 200, "audio"]
    assert download["token"] == started["token"]
    for what in ("share-generation", "DELETE /api/generations/{id}/shares"):
        assert next(line for line in lines if line["what"] == what)["withUser"] == "bob"
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["at"]) for line in lines)


def test_a_server_in_a_kernel_logs_only_where_it_is_asked_to(tmp_path):
    with serving(tmp_path / "off") as server:
        call(server, "GET", "/healthz", user=None)
        server.stop()
    assert not (tmp_path / "off" / "home" / AUDIT_FILE).exists()
    with serving(tmp_path / "on", audit=tmp_path / "elsewhere.jsonl") as server:
        call(server, "GET", "/healthz", user=None)
        server.stop()
    assert [line["what"] for line in lines_of(tmp_path / "elsewhere.jsonl")] == ["GET /healthz"]


def test_a_flood_of_refusals_does_not_push_other_lines_out(tmp_path, monkeypatch):
    with serving(tmp_path, audit=True) as server:
        answers = iter([True] * 3 + [False] * 2 + [True])
        monkeypatch.setattr(server._app.gateway.audit._refusals, "take", lambda who: next(answers))
        for _ in range(5):
            assert call(server, "GET", "/nowhere", user=None)[0] == 404
        assert call(server, "GET", "/api/generations")[0] == 200
        assert call(server, "GET", "/nowhere", user=None)[0] == 404
        server.stop()
    lines = lines_of(tmp_path / "home" / AUDIT_FILE)
    assert [(line["outcome"], line.get("unlogged")) for line in lines] == [("NOT_FOUND", None)] * 3 + [
        ("ok", None),
        ("NOT_FOUND", 2),
    ]


def test_a_full_file_is_rotated_and_only_so_many_are_kept(tmp_path):
    path = tmp_path / AUDIT_FILE
    log = log_of(path, max_bytes=500)
    for number in range(60):
        log.record("call", "ok", number=number)
        until(log._queue.empty)
    log.close()
    files = sorted(file.name for file in tmp_path.iterdir())
    assert files == [AUDIT_FILE, f"{AUDIT_FILE}.1", f"{AUDIT_FILE}.2"]
    kept = [line["number"] for name in reversed(files) for line in lines_of(tmp_path / name)]
    assert kept == list(range(60 - len(kept), 60))
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in files} == {0o600}


def test_two_servers_write_to_one_file_that_either_rotates_or_an_operator_moves_away(tmp_path):
    path = tmp_path / AUDIT_FILE
    logs = [log_of(path, max_bytes=2000, kept=9) for _ in range(2)]
    for number in range(50):
        for log in logs:
            log.record("call", "ok", number=number)
        until(lambda: all(log._queue.empty() for log in logs))
    for log in logs:
        log.close()
    found = [line["number"] for file in tmp_path.iterdir() for line in lines_of(file)]
    assert sorted(found) == sorted([*range(50), *range(50)])
    log = log_of(path)
    path.rename(tmp_path / "moved")
    log.record("call", "ok")
    log.close()
    assert [line["what"] for line in lines_of(path)] == ["call"]


def test_a_full_disk_stops_nothing_and_what_was_lost_is_counted(tmp_path, monkeypatch, caplog):
    path, full = tmp_path / AUDIT_FILE, [False]
    write = os.write

    def refused(descriptor, data):
        """Write half of it, as a disk does that fills up, then nothing."""
        if full == [False]:
            return write(descriptor, data)
        if full.pop() is True:
            full.append("entirely")
            return write(descriptor, data[: len(data) // 2])
        full.append("entirely")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(audit.os, "write", refused)
    log = log_of(path)
    log.record("first", "ok")
    until(path.read_text)
    full[:] = [True]
    log.record("half", "ok")
    until(lambda: log._lost == 1)
    log.record("none of it", "ok")
    until(lambda: log._lost == 2)
    full[:] = [False]
    log.record("last", "ok")
    log.close()
    first, half, lost, last = path.read_text().splitlines()
    assert json.loads(first)["what"] == "first"
    assert half.startswith('{"at":')
    assert json.loads(lost).items() >= {"what": "audit", "outcome": "lost", "count": 2}.items()
    assert json.loads(last)["what"] == "last"
    assert caplog.text.count("cannot be written") == 1


def test_a_disk_that_hangs_holds_nobody_up(tmp_path, monkeypatch):
    import threading

    gate = threading.Event()
    monkeypatch.setattr(audit, "MAX_QUEUED", 5)
    monkeypatch.setattr(audit.os, "write", lambda fd, data, write=os.write: gate.wait(60) and write(fd, data))
    log = log_of(tmp_path / AUDIT_FILE)
    for _ in range(20):
        log.record("call", "ok")
    gate.set()
    log.close()
    lines = lines_of(tmp_path / AUDIT_FILE)
    lost = sum(line.get("count", 0) for line in lines)
    assert lost + sum(line["what"] == "call" for line in lines) + log._lost == 20
    assert log._lost + lost >= 13


def test_a_file_that_cannot_be_made_starts_no_server(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        log_of(tmp_path / "file" / AUDIT_FILE)


def test_what_a_file_had_before_stays_and_becomes_private(tmp_path):
    path = tmp_path / AUDIT_FILE
    path.write_text('{"what": "before"}\n')
    path.chmod(0o644)
    log = log_of(path)
    log.record("after", "ok", user="x" * 500)
    log.close()
    assert [line["what"] for line in lines_of(path)] == ["before", "after"]
    assert len(lines_of(path)[1]["user"]) == 128
    assert path.stat().st_mode & 0o777 == 0o600
