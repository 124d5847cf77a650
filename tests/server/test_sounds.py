"""Sounds that clients upload, and songs that name them: checked by content, limited, and their owner's alone."""

import asyncio
import io
import json
import os
import threading
import time
from pathlib import Path

import aiohttp
import numpy as np
import pytest
import soundfile

from harmonia_lab import BlockingClient
from harmonia_lab.audio_engines import audiofile
from harmonia_lab.errors import ErrorCode, InvalidRequest, Refused
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.server import sounds
from harmonia_lab.server.audit import AUDIT_FILE
from harmonia_lab.server.settings import RateLimits
from harmonia_lab.store.sounds import Sounds
from tests.server.conftest import serving
from tests.server.test_http import STORY, call
from tests.waiting import PATIENCE_S, until


def tune(kind="WAV", seconds=0.5, rate=8000, channels=1, level=0.1):
    """A file of this format."""
    file = io.BytesIO()
    times = np.arange(round(seconds * rate))[:, None] / rate
    soundfile.write(file, level * np.sin(700 * times) * np.ones((1, channels)), rate, format=kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    limits = RateLimits(uploads=(1000.0, 1000))
    with serving(tmp_path_factory.mktemp("sounds"), audit=True, rates=limits, max_sound_bytes=100_000) as server:
        yield server


def upload(server, data, **options):
    status, _, body = call(server, "POST", "/api/sounds", data=data, **options)
    return status, json.loads(body)


def held(server, user="ann"):
    return [each["soundId"] for each in json.loads(call(server, "GET", "/api/sounds", user=user)[2])["sounds"]]


def left_over(server):
    return list((server.lab.home / "sounds").glob("*/*.partial"))


def test_a_song_follows_a_sound_that_its_owner_has_uploaded(served):
    status, answer = upload(served, tune())
    assert status == 201
    assert {**answer, "soundId": "", "keptUntil": ""} == {
        "ok": True, "soundId": "", "size": len(tune()), "keptUntil": "",
        "format": "wav", "seconds": 0.5, "sampleRate": 8000, "channels": 1,
    }  # fmt: skip
    with BlockingClient(served.url) as client:
        client.connect(served.token("ann"))
        options = {"melody": answer["soundId"], "pitch": 300}
        ack = client.start("A small boat goes home.", seconds=1, generation_id="follows", audio_options=options)
        assert [event.name for event in client.events(ack.generation_id)][-1] == "audio-generation-complete"
    record = read_record(served.lab.journal.state("follows").song_path.parent)
    file = Path(record["engines"]["audio"]["settings"]["melody"])
    assert file.read_bytes() == tune()
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert record["request"]["audioOptions"] == {"melody": str(file), "pitch": 300}


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_the_format_is_that_of_the_content_whatever_the_client_calls_it(served, kind):
    data = tune(kind, rate=16000, channels=2)
    status, answer = upload(served, data, headers={"Content-Type": "text/html", "Content-Disposition": "x.exe"})
    assert (status, answer["format"], answer["channels"]) == (201, kind.lower(), 2)
    assert answer["seconds"] == pytest.approx(0.5, abs=0.1)


def wav_of(samples, rate=8000):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no audio file"),
        (b"<html>" * 100, "no audio file"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "no audio file"),
        (tune("FLAC")[:60], "damaged"),
        (tune(level=0.0), "silent"),
        (wav_of(np.full(800, np.nan)), "not a number"),
        (wav_of(np.zeros(0)), "empty"),
        (tune("AU"), "format AU"),
        (tune(rate=2000), "2000 Hz"),
        (tune(channels=9), "9 channels"),
        (tune("FLAC", seconds=20, level=1e-3) + b"x" * 100_000, "larger than"),
    ],
    ids=["nothing", "page", "picture", "cut", "silent", "nan", "empty", "au", "slow", "wide", "large"],
)
def test_what_is_no_music_is_refused_without_a_trace(served, data, says):
    before = held(served)
    status, answer = upload(served, data)
    assert (status, answer["error"]["code"], answer["error"]["details"]["fields"]) == (
        400,
        "INVALID_PAYLOAD",
        ["sound"],
    )
    assert says in answer["error"]["message"]
    assert str(served.lab.home) not in json.dumps(answer)
    assert (held(served), left_over(served)) == (before, [])


def test_a_sound_that_says_nothing_of_its_length_is_cut_off_all_the_same(served):
    async def endless():
        for _ in range(100):
            yield b"RIFF" * 4096

    status, answer = upload(served, endless())
    assert status == 400
    assert answer["error"]["message"].startswith("The sound is larger than 0.0954 MiB.")
    assert left_over(served) == []


def test_a_sound_is_no_longer_than_any_song(tmp_path, monkeypatch):
    monkeypatch.setattr(audiofile, "SOUND_S", 0.4)
    path = tmp_path / "sound-1"
    path.write_bytes(tune("FLAC", seconds=0.5))
    with pytest.raises(InvalidRequest, match=r"longer than 0\.4 s"):
        audiofile.check_sound(path)


def test_a_sound_is_its_owners_alone(served):
    sound = upload(served, tune())[1]["soundId"]
    for user, roles in (("bob", ()), ("root", ("admin",))):
        assert sound not in held(served, user)
        assert call(served, "DELETE", f"/api/sounds/{sound}", user=user, roles=roles)[0] == 404
        body = STORY | {"audioOptions": {"melody": sound}}
        status, _, answer = call(served, "POST", "/api/generations", user=user, roles=roles, json=body)
        assert (status, json.loads(answer)["error"]["code"]) == (404, "NOT_FOUND")
    assert sound in held(served)


@pytest.mark.parametrize("name", ["/etc/passwd", "../ann", "sound-", "sound-" + "0" * 24, "melody.wav", "", 5, True])
def test_a_client_names_no_file_of_the_server(served, name):
    body = STORY | {"audioOptions": {"melody": name}, "generationId": "never"}
    status, _, answer = call(served, "POST", "/api/generations", json=body)
    assert (status, json.loads(answer)["error"]["code"]) == (404, "NOT_FOUND")
    assert served.lab.journal.state("never") is None


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"cfg_coef": 5}, "cfg_coef"),
        ({"pitch": 5}, "pitch"),
        ({"pitch": {}}, "audioOptions.pitch"),
        (5, "audioOptions"),
    ],
    ids=str,
)
def test_options_that_the_engine_does_not_take_are_refused_by_name_before_anything_starts(served, options, field):
    status, _, answer = call(served, "POST", "/api/generations", json=STORY | {"audioOptions": options})
    error = json.loads(answer)["error"]
    assert (status, error["code"], error["details"]["fields"]) == (400, "INVALID_PAYLOAD", [field])


def test_one_user_has_so_much_room_and_gets_it_back_by_deleting(tmp_path):
    size = len(tune())
    with serving(tmp_path, user_sound_bytes=2 * size + 10) as server:
        first, second = (upload(server, tune())[1]["soundId"] for _ in range(2))
        status, answer = upload(server, tune())
        assert (status, answer["error"]["code"], answer["error"]["recoverable"]) == (507, "QUOTA_EXCEEDED", True)
        assert upload(server, tune(), user="bob")[0] == 201
        assert call(server, "DELETE", f"/api/sounds/{first}")[0] == 200
        assert call(server, "DELETE", f"/api/sounds/{first}")[0] == 404
        assert upload(server, tune())[0] == 201
        assert second in held(server)


def test_one_user_has_so_many_sounds(tmp_path, monkeypatch):
    monkeypatch.setattr(sounds, "MOST_SOUNDS", 1)
    with serving(tmp_path) as server:
        assert [upload(server, tune())[0] for _ in range(2)] == [201, 507]


def test_one_user_uploads_one_sound_at_a_time(served):
    go_on = threading.Event()

    async def slow():
        yield tune()[:1000]
        await asyncio.to_thread(go_on.wait, PATIENCE_S)
        yield tune()[1000:]

    results = []
    other = threading.Thread(target=lambda: results.append(upload(served, slow(), user="slow")))
    other.start()
    until(lambda: left_over(served))
    assert upload(served, tune(), user="slow")[1]["error"]["code"] == "RATE_LIMITED"
    assert upload(served, tune(), user="bob")[0] == 201
    go_on.set()
    other.join(PATIENCE_S)
    assert results[0][0] == 201
    assert upload(served, tune(), user="slow")[0] == 201


def test_uploads_are_limited_in_number(tmp_path):
    with serving(tmp_path, rates=RateLimits(uploads=(0.001, 2))) as server:
        assert [upload(server, tune())[0] for _ in range(3)] == [201, 201, 429]


def test_who_stops_sending_is_not_waited_for(tmp_path):
    with serving(tmp_path, read_timeout_s=0.2) as server:

        async def stuck():
            yield tune()[:1000]
            await asyncio.sleep(PATIENCE_S)

        async def main():
            headers = {"Authorization": f"Bearer {server.token('ann')}"}
            async with (
                aiohttp.ClientSession() as session,
                session.post(server.url + "/api/sounds", data=stuck(), headers=headers) as answer,
            ):
                return answer.status

        assert asyncio.run(main()) == 408
        until(lambda: left_over(server) == [])


def test_the_audit_log_has_each_upload_with_the_sounds_id(served):
    sound = upload(served, tune())[1]["soundId"]
    call(served, "DELETE", f"/api/sounds/{sound}")

    def told():
        lines = map(json.loads, (served.lab.home / AUDIT_FILE).read_text().splitlines())
        return [(line["what"], line["outcome"], line["user"]) for line in lines if line.get("sound") == sound]

    until(lambda: len(told()) == 2)
    assert told() == [("POST /api/sounds", "ok", "ann"), ("DELETE /api/sounds/{sound}", "ok", "ann")]


def test_a_sound_is_kept_for_a_week_after_a_song_last_named_it(tmp_path):
    store = Sounds(tmp_path / "sounds")
    part = store.part("ann")
    part.write_bytes(b"x")
    sound = store.keep(part)
    old = time.time() - 6.9 * 86_400
    os.utime(sound.path, (old, old))
    assert store.clean() == 0
    store.use("ann", sound.id)
    os.utime(store.part("ann").parent, (old, old))
    assert store.of("ann")[0].kept_until.timestamp() == pytest.approx(time.time() + 7 * 86_400, abs=60)
    older = time.time() - 7.1 * 86_400
    os.utime(sound.path, (older, older))
    assert store.clean() == 1
    with pytest.raises(Refused) as caught:
        store.use("ann", sound.id)
    assert caught.value.code == ErrorCode.NOT_FOUND


def test_users_whose_names_are_paths_have_folders_of_their_own(tmp_path):
    store = Sounds(tmp_path / "sounds")
    for user in ("../ann", "/ann", "ann", ".", "a" * 128):
        part = store.part(user)
        part.write_bytes(b"x")
        store.keep(part)
        assert len(store.of(user)) == 1
    assert {path.parent.parent for path in (tmp_path / "sounds").glob("*/*")} == {tmp_path / "sounds"}


def test_a_file_of_this_machines_is_copied_once(tmp_path):
    store, file = Sounds(tmp_path / "sounds"), tmp_path / "tune.wav"
    file.write_bytes(tune())
    first, again = store.add("local", file), store.add("local", file)
    assert first == again
    assert store.use("local", first).read_bytes() == tune()
    assert len(list((tmp_path / "sounds").glob("*/*"))) == 1
