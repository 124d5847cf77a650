"""The settings of a lab and a server that one process passes to another."""

import dataclasses
from pathlib import Path

import pytest

from harmonia_lab.audio_engines.musicgen.settings import Settings
from harmonia_lab.backends.serve_settings import LabSettings, ServeSettings
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.generation.generation import TimeLimits
from harmonia_lab.generation.handle import QueueLimits
from harmonia_lab.generation.retention import Retention
from harmonia_lab.server.settings import RateLimits, ServerSettings
from harmonia_lab.testing import FakeAudioEngine

SERVER = ServerSettings(
    host="0.0.0.0",
    port=1,
    public_url="https://songs.example",
    path="io",
    certificate=Path("c.pem"),
    private_key=Path("k.pem"),
    origins=("https://a.example", "https://b.example"),
    key=Path("key"),
    public_keys=Path("keys.json"),
    audience="them",
    issuer="us",
    ping_interval_s=1.0,
    ping_timeout_s=2.0,
    connect_timeout_s=3.0,
    max_message_bytes=4,
    compression=True,
    http_compression=False,
    progress_interval_s=0.5,
    fast_broadcast=False,
    max_connections=6,
    link_ttl_s=7.0,
    switch_interval_s=None,
    owner_key="ab" * 32,
    queue=QueueLimits(8, 9),
    rates=RateLimits((1.0, 2), (3.0, 4), (5.0, 6), (7.0, 8), (9.0, 10)),
    insecure=True,
    trusted_proxies=("10.0.0.1", "10.1.0.0/16"),
    audit=Path("on"),
    audit_bytes=10,
    audit_files=11,
    max_connections_per_address=12,
    max_sockets_per_user=13,
    read_timeout_s=14.0,
    idle_timeout_s=15.0,
    room_kept_s=16.0,
    failed_room_kept_s=17.0,
    max_sound_bytes=18,
    user_sound_bytes=19,
    webhook="https://hook.example/x",
    page=False,
    log_format="json",
)
GIVEN = {
    "metadata": "embedded",
    "model": "m",
    "metadata_settings": {},
    "audio": "musicgen",
    "audio_model": Path("model"),
    "audio_settings": {"melody": Path("a.wav"), "top_k": 7},
    "songs": "songs",
    "home": Path("home"),
    "limits": TimeLimits(metadata_s=1.0, audio_s=2.0),
    "retention": Retention(max_songs=3, max_days=0.5, max_bytes=4, journal_generations=5, journal_days=6.0),
}


def test_every_setting_of_a_server_and_a_lab_arrives():
    unset = {f.name for f in dataclasses.fields(SERVER) if getattr(SERVER, f.name) == getattr(ServerSettings(), f.name)}
    assert unset == set()
    sent = ServeSettings(lab=LabSettings.of(GIVEN), server=SERVER)
    read = ServeSettings.parse(sent.model_dump_json())
    assert read == sent
    assert read.server.owner_key == SERVER.owner_key  # it does not count for equality
    assert (read.lab.limits, read.lab.retention) == (GIVEN["limits"], GIVEN["retention"])
    for audit in (True, False, None):
        one = ServeSettings(server=ServerSettings(audit=audit))
        assert ServeSettings.parse(one.model_dump_json()).server.audit is audit


def test_settings_of_the_language_models_server_arrive_with_their_secrets_and_are_not_shown(tmp_path):
    given = {"headers": {"X-Key": "s3cret"}, "ca": "ca.pem", "timeouts": "first=900", "think": "low"}
    sent = LabSettings.of(GIVEN | {"metadata": "auto", "metadata_settings": given})
    read = ServeSettings.parse(ServeSettings(lab=sent).model_dump_json()).lab.metadata_settings
    assert read["headers"] == {"X-Key": "s3cret"}
    assert read["ca"] == str(Path("ca.pem").absolute())
    assert (read["timeouts"]["first"], read["timeouts"]["connect"], read["think"]) == (900.0, 5.0, "low")
    assert "s3cret" not in repr(sent)


def test_settings_for_an_engine_that_has_none_are_refused():
    with pytest.raises(InvalidRequest, match="embedded engine has no settings"):
        LabSettings.of(GIVEN | {"metadata_settings": {"ca": "x"}})


def test_paths_become_absolute_and_engines_settings_what_musicgen_reads():
    made = LabSettings.of(GIVEN)
    assert (made.songs, made.home) == (str(Path("songs").absolute()), str(Path("home").absolute()))
    assert made.audio_settings == {"melody": str(Path("a.wav").absolute()), "top_k": 7}
    assert Settings.of(made.audio_settings).melody == Path("a.wav").absolute()


@pytest.mark.parametrize("name", ["metadata", "audio"])
def test_an_engine_that_is_an_object_is_refused_and_named(name):
    with pytest.raises(InvalidRequest, match=name) as caught:
        LabSettings.of(GIVEN | {name: FakeAudioEngine()})
    assert caught.value.details == {"fields": [name]}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "EOF"),
        ("[]", "object"),
        ('{"server": {"prot": 1}}', "server.prot"),
        ('{"server": {"port": 70000}}', "70000"),
        ('{"server": {"port": "high"}}', "server.port"),
        ('{"lab": {"metadata": 1}}', "lab.metadata"),
        ('{"queue": {}}', "queue"),
    ],
)
def test_settings_that_cannot_be_used_are_named(text, fault):
    with pytest.raises(InvalidRequest, match=fault):
        ServeSettings.parse(text)


def test_options_take_precedence_over_the_file():
    settings = ServeSettings.parse('{"server": {"port": 1, "host": "::1"}, "lab": {"audio": "sketch", "songs": "a"}}')
    chosen = settings.with_options({"port": 2, "host": None, "songs": "b", "model": None, "json": True})
    assert (chosen.server.port, chosen.server.host) == (2, "::1")
    assert chosen.lab == LabSettings(audio="sketch", songs="b")
