"""`--cluster` on the command line and in a server's settings."""

import json

import pytest

from harmonia_lab import Lab
from harmonia_lab.backends.serve_settings import ServeSettings
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.testing import SONG_METADATA
from tests.cli.conftest import CommandLine


def table(folder, count):
    path = folder / "songs.jsonl"
    given = SONG_METADATA.model_dump(mode="json", by_alias=True)
    path.write_text("".join(json.dumps({"metadata": given, "seconds": 1, "seed": n}) + "\n" for n in range(count)))
    return str(path)


def test_a_batch_and_the_doctor_take_a_cluster(workers, tmp_path):
    harmonia = CommandLine(tmp_path)
    address = workers.scheduler_address
    done = harmonia("doctor", "--cluster", address, "--json")
    found = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 0, found
    assert found["places"]["found"] == "2 songs at once"
    assert "as a worker says over its own connection" in found["words"]["found"]
    assert "song=1" in found["worker 0"]["found"]
    made = harmonia(
        "batch", table(tmp_path, 3), "--out", str(tmp_path / "out"), "--cluster", address, "--audio", "tones"
    )
    assert made.returncode == 0, made.stderr.decode()
    assert len(list((tmp_path / "out").glob("*/song.flac"))) == 3


@pytest.mark.parametrize("command", ["batch", "doctor"])
def test_a_plain_scheduler_beyond_loopback_is_refused_with_the_remedy(tmp_path, command):
    harmonia = CommandLine(tmp_path)
    arguments = [table(tmp_path, 1), "--out", str(tmp_path / "out")] if command == "batch" else []
    done = harmonia(command, *arguments, "--cluster", "tcp://10.1.2.3:8786")
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == (2 if command == "batch" else 1)
    assert "not encrypted" in said
    assert "--protocol tls" in said


def test_a_servers_settings_name_a_cluster(tmp_path):
    given = ServeSettings.parse('{"lab": {"cluster": "tcp://10.1.2.3:8786"}}')
    with pytest.raises(InvalidRequest, match="not encrypted"):
        Lab(**vars(given.lab))
    assert given.with_options({"cluster": "local:3"}).lab.cluster == "local:3"
    with pytest.raises(InvalidRequest, match="by a server or by a cluster"):
        Lab(server="https://gpu.example", token="t", cluster="local", home=tmp_path)
    with pytest.raises(InvalidRequest, match="is no Dask cluster"):
        Lab(cluster=7, home=tmp_path)
