"""A server that is lost in the middle, elsewhere, busy or gone: what is told, kept, and started again."""

import json
import shlex
import socket
import sys
import threading

import psutil
import pytest

from harmonia_lab.engines.base import CancelToken
from harmonia_lab.engines.network import is_network_fault, network_reason
from harmonia_lab.errors import Cancelled, ErrorCode, InvalidRequest, MetadataError
from harmonia_lab.generation.generation import TimeLimits
from harmonia_lab.generation.recovery_plans import RecoveryLimits
from harmonia_lab.metadata_engines.ollama.engine import OllamaEngine
from harmonia_lab.metadata_engines.ollama.settings import OllamaSettings
from harmonia_lab.metadata_engines.stand_in import StandInEngine
from harmonia_lab.protocol.models import parse_request
from harmonia_lab.testing import FakeModel, FakeOllama, Refusal, Reply
from tests.generation.test_generation import Run as Song
from tests.generation.test_recovery import told
from tests.metadata_engines.test_ollama import ANSWER, REQUEST, Run, failure
from tests.waiting import until

QUICK = TimeLimits(recovery=RecoveryLimits(first_wait_s=0.01, network_wait_s=0.01))
SHORT = parse_request(narrative=REQUEST.narrative, seconds=1, seed=7)


def song(tmp_path, server, *, limits=QUICK, **settings):
    """A whole generation with the real engine and a fake stage 2."""
    engine = OllamaEngine(host=server if isinstance(server, str) else server.url, **settings)
    return Song(tmp_path, metadata=engine, request=SHORT, limits=limits)


# --- resumed at the step that failed


def stepwise(faults):
    """A small model that answers by the question alone, except that the answers with these numbers fail."""
    asked = []
    begins = ("The lamp is burning through the night, ", "A lonely ship is sailing home, ")
    lyric = "The lighthouse keeper walks along the stairs, the storm is rising from the sea. "

    def answer(body):
        asked.append(body)
        verse = f"The Keeper's Storm\n\n{begins[body['options']['seed'] % 2]}{lyric}"
        return Reply(" calm" if body["options"]["num_predict"] == 1 else verse, fault=faults.pop(len(asked), None))

    return FakeOllama(answer, models={"tiny:135m": FakeModel("135M")})


def test_an_attempt_goes_on_at_the_step_that_failed_with_the_answers_so_far(tmp_path):
    with stepwise({5: "cut", 8: "reset"}) as server:
        run = song(tmp_path, server)
        run.generation.run()
    asked = [json.dumps(chat) for chat in server.chats]
    assert len(asked) == len(set(asked)) + 2  # only the two questions whose answers failed were asked twice
    assert told(run) == [("reconnect", 1), ("reconnect", 2)]
    assert [row["status"] for row in run.rows] == ["failed", "failed", "completed"]


def test_a_resumed_song_is_the_one_that_an_undisturbed_server_writes():
    with stepwise({}) as server:
        whole = Run(server).result
    with stepwise({6: "cut"}) as server:
        engine = OllamaEngine(host=server.url)
        with pytest.raises(MetadataError):
            engine.write(REQUEST, 7, lambda _: None, CancelToken())
        resumed = engine.write(REQUEST, 7, lambda _: None, CancelToken())
    assert resumed.metadata == whole.metadata
    assert [entry.get("purpose") for entry in resumed.transcript] == [
        entry.get("purpose") for entry in whole.transcript
    ]


def test_answers_are_kept_for_the_same_song_alone_and_not_after_answers_that_were_no_use():
    with stepwise({6: "cut"}) as server:
        engine = OllamaEngine(host=server.url)
        with pytest.raises(MetadataError):
            engine.write(REQUEST, 7, lambda _: None, CancelToken())
        before = len(server.chats)
        engine.write(REQUEST, 8, lambda _: None, CancelToken())
        assert len(server.chats) - before > 6
    with FakeOllama(["no song"] * 3 + [ANSWER]) as server:
        engine = OllamaEngine(host=server.url)
        with pytest.raises(MetadataError):
            engine.write(REQUEST, 7, lambda _: None, CancelToken())
        assert engine.write(REQUEST, 7, lambda _: None, CancelToken()).metadata.title


# --- told


def test_waits_for_a_busy_server_are_told_as_recoveries(tmp_path):
    busy = Refusal(503, {"error": "server busy"}, {"Retry-After": "0"})
    with FakeOllama([ANSWER], refusals={"/api/chat": [busy] * 2, "/api/tags": [busy]}) as server:
        run = song(tmp_path, server)
        run.generation.run()
    assert told(run) == [("wait", 1), ("wait", 2), ("wait", 3)]
    (row,) = run.rows
    assert (row["recoveries"], row["status"]) == ("wait,wait,wait", "completed")
    assert "OLLAMA_BUSY" in {event.error.code for event in run.lifecycle if event.name == "generation-error"}


def test_repairs_of_an_answer_are_told_as_recoveries(tmp_path):
    with FakeOllama(["no song", "{}", ANSWER]) as server:
        run = song(tmp_path, server)
        run.generation.run()
    assert told(run) == [("repair", 1), ("repair", 2)]
    assert run.rows[0]["recoveries"] == "repair,repair"


# --- elsewhere


@pytest.fixture
def own_address():
    """An address of this machine that is not of loopback, as another machine's would be."""
    found = [a.address for each in psutil.net_if_addrs().values() for a in each if a.family == socket.AF_INET]
    outward = [address for address in found if not address.startswith("127.")]
    if not outward:
        pytest.skip("this machine has no address but loopback")
    return outward[0]


def test_a_server_elsewhere_that_refuses_or_resets_is_a_network_fault_and_one_here_is_not(own_address):
    with FakeOllama([Reply(ANSWER, fault="reset")], host=own_address) as server:
        reset = failure(server)
        server.stop()
        refused = failure(server)
    assert {reset.code, refused.code} == {ErrorCode.NETWORK_TEMPORARY}
    assert "in the middle of its answer" in reset.message
    assert "refused" in refused.message
    assert own_address in refused.message
    assert "OLLAMA_HOST" in refused.hint
    with FakeOllama([Reply(ANSWER, fault="reset")]) as server:
        reset = failure(server)
        server.stop()
        refused = failure(server)
    assert {reset.code, refused.code} == {ErrorCode.OLLAMA_UNAVAILABLE}


@pytest.mark.parametrize("host", ["http://nobody.invalid:11434", "https://nobody.invalid"])
def test_a_name_that_cannot_be_resolved_is_a_network_fault_that_is_tried_again(tmp_path, host):
    run = song(tmp_path, host)
    with pytest.raises(MetadataError) as caught:
        run.generation.run()
    assert caught.value.code is ErrorCode.NETWORK_TEMPORARY
    assert "nobody.invalid" in caught.value.message
    assert told(run) == [("network", 1), ("network", 2), ("network", 3)]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ('pull model manifest: Get "https://registry.ollama.ai/v2/": dial tcp: lookup registry.ollama.ai: no such host',
         ErrorCode.NETWORK_TEMPORARY),
        ("pull model manifest: file does not exist", ErrorCode.OLLAMA_UNAVAILABLE),
    ],
)  # fmt: skip
def test_a_hub_that_the_server_cannot_reach_is_told_from_a_model_that_there_is_not(said, code):
    refusal = Refusal(200, json.dumps({"status": "pulling manifest"}) + "\n" + json.dumps({"error": said}))
    with FakeOllama(models={"other:3b": FakeModel()}, refusals={"/api/pull": [refusal]}) as server:
        assert failure(server, model="wanted:3b", pull=True).code == code


def test_a_network_fault_is_found_however_deep_it_lies():
    def raised(outer, inner):
        outer.__cause__ = inner
        return outer

    deep = raised(OSError("We couldn't connect"), raised(ValueError("x"), ConnectionResetError(104, "Reset")))
    assert is_network_fault(deep)
    assert network_reason(deep) == "connection reset by peer"
    assert is_network_fault(socket.gaierror(-2, "Name or service not known"))
    assert not is_network_fault(FileNotFoundError("no"))
    offline = type("OfflineModeIsEnabled", (ConnectionError,), {})
    assert not is_network_fault(raised(OSError("offline"), offline("HF_HUB_OFFLINE")))


# --- started again


def touch(path):
    return shlex.join([sys.executable, "-c", f"open({str(path)!r}, 'w')"])


def test_a_service_with_a_command_is_started_again_once_reconnecting_has_not_helped(tmp_path):
    asked = tmp_path / "asked for"
    with FakeOllama([ANSWER]) as server:
        server.stop()
        starter = threading.Thread(target=lambda: (until(asked.exists), server.start()))
        starter.start()
        run = song(tmp_path, server, limits=TimeLimits(recovery=RecoveryLimits(first_wait_s=0.3)), restart=touch(asked))
        run.generation.run()
        starter.join()
    assert told(run) == [("reconnect", 1), ("restart", 2)]
    assert [row.get("recoveries") for row in run.rows] == [None, "reconnect", "restart"]


def test_a_cancel_ends_a_command_that_does_not(tmp_path):
    engine, cancel = OllamaEngine(host="http://127.0.0.1:9", restart="sleep 600"), CancelToken()
    error = MetadataError("It went away.", code=ErrorCode.OLLAMA_UNAVAILABLE)
    threading.Timer(0.1, cancel.cancel).start()
    assert engine.recover(error, 2, cancel).plan == "restart"
    assert not [child for child in psutil.Process().children() if child.name() == "sleep"]
    run = song(tmp_path, "http://127.0.0.1:9", restart="sleep 600")
    run.on("generation-error", lambda: threading.Timer(0.1, run.generation.cancel).start())
    with pytest.raises(Cancelled):
        run.generation.run()


@pytest.mark.parametrize("command", ["/no/such/program", "false", "sh -c 'exit 3'"])
def test_a_command_that_fails_is_a_warning(command, caplog):
    engine = OllamaEngine(host="http://127.0.0.1:9", restart=command)
    error = MetadataError("It went away.", code=ErrorCode.OLLAMA_TIMEOUT)
    assert engine.recover(error, 1, CancelToken()) is None
    assert StandInEngine(engine, "A warning.").recover(error, 2, CancelToken()).plan == "restart"
    assert "starts it again" in caplog.text


@pytest.mark.parametrize("command", ["", "  ", "an 'open quote", 7])
def test_what_is_no_command_is_refused(command):
    with pytest.raises(InvalidRequest, match="restart"):
        OllamaSettings.of({"restart": command})


def test_the_command_goes_to_another_process_and_into_no_record():
    settings = OllamaSettings.of({"restart": "systemctl restart ollama", "pull": True})
    assert settings.to_json() == {"restart": "systemctl restart ollama", "pull": True}
    assert settings.record() == {"pull": True}
    assert settings.for_songs() == {}
