"""Who gets at a cluster's songs, and what others can read of them."""

import socket
import ssl
from types import SimpleNamespace

import pytest

from harmonia_lab.backends.cluster.frames import pack
from harmonia_lab.backends.cluster.generation import ClusterGeneration
from harmonia_lab.errors import AudioError, HarmoniaError, InvalidRequest
from harmonia_lab.testing import SONG_METADATA
from tests.backends.cluster.conftest import SONG
from tests.waiting import PATIENCE_S, until

TITLE, LINE, WISH = "Xylograph", "Quagmire by moonlight", "an ombudsman remembers"


@pytest.mark.parametrize(
    "cluster",
    [
        SimpleNamespace(scheduler_address="tcp://10.1.2.3:8786"),
        SimpleNamespace(scheduler=SimpleNamespace(address="tcp://[fe80::1]:8786")),
    ],
    ids=["a Cluster object", "a Client"],
)
def test_a_plain_scheduler_beyond_loopback_is_refused_inside_an_object_too(new_lab, cluster):
    with pytest.raises(InvalidRequest, match="not encrypted") as raised:
        new_lab(cluster=cluster)
    assert "--protocol tls" in raised.value.hint


@pytest.mark.parametrize("name", ["../out", "/etc/out", "a/../../out", "a\\out", "c:out", "a/b/c/d", ""])
def test_a_worker_writes_no_file_outside_its_songs_folder(tmp_path, name):
    folder = tmp_path / "song"
    folder.mkdir()
    with pytest.raises(HarmoniaError, match="outside its folder"):
        ClusterGeneration._write_piece(None, folder, name, 0, b"x")
    assert [path for path in tmp_path.rglob("*") if path != folder] == []


def test_no_words_of_a_song_are_in_what_dask_keeps_shows_or_logs(new_lab, workers, noted):
    lab = new_lab(audio_settings={"step_s": 60.0})
    words = SONG_METADATA.model_copy(update={"title": TITLE, "lyrics": f"[Verse 1]\n{LINE}"})
    job = lab.submit(WISH, metadata=words, seconds=1, seed=7, generation_id="xylo-1")
    until(lambda: noted("begun"))
    during = kept_by_dask(lab.cluster.client)
    job.cancel()
    job.wait(PATIENCE_S)
    failing = new_lab("failing")  # of a worker's errors, too
    failing._local._engines["paths"][f"/{TITLE}"] = "0" * 64
    with pytest.raises(AudioError, match=TITLE):
        failing.submit(WISH, metadata=words, seconds=1, seed=8, generation_id="xylo-2").result(PATIENCE_S)
    after = kept_by_dask(failing.cluster.client)
    assert "harmonia-" in during
    for text in (TITLE, LINE, WISH, "xylo-1", "xylo-2"):
        assert text not in during
        assert text not in after


def kept_by_dask(client):
    """Return what the scheduler has of tasks, what its dashboard draws, its events, and the logs of all."""

    def read(dask_scheduler):
        tasks = [
            (
                ts.key,
                ts.run_spec,
                ts.prefix,
                ts.group,
                ts.annotations,
                ts.metadata,
                ts.exception_text,
                ts.traceback_text,
            )
            for ts in dask_scheduler.tasks.values()
        ]
        drawn = [repr(vars(plugin)) for plugin in dask_scheduler.plugins.values() if hasattr(plugin, "__dict__")]
        errors = list(getattr(dask_scheduler, "erred_tasks", ()))
        return repr((tasks, dask_scheduler.get_events(), dask_scheduler.transition_log, drawn, errors))

    return client.run_on_scheduler(read) + repr(client.get_scheduler_logs()) + repr(client.get_worker_logs())


@pytest.mark.stress
def test_a_cluster_with_tls_has_its_songs_over_tls_alone(tones, new_lab, tmp_path):
    from distributed import LocalCluster
    from distributed.security import Security

    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        resources={"GPU": 1},
        security=Security.temporary(),
    ) as cluster:
        assert cluster.scheduler_address.startswith("tls:")
        lab = new_lab(cluster=cluster)
        assert lab.cluster.resource == "GPU"
        assert lab.submit(**SONG).result(PATIENCE_S)
        inbox = lab.cluster.listener.open("x")
        for certificate in (None, own_certificate(tmp_path)):
            assert heard(lab.cluster.listener, certificate) == b""
        assert inbox.empty()
        own = Security.temporary().get_connection_args("client")["ssl_context"]  # of an authority of its own
        assert heard(lab.cluster.listener, own) == b""
        assert inbox.empty()


def own_certificate(folder):
    """A TLS context of somebody with a certificate that nobody has signed for the cluster."""
    from distributed.security import Security

    made = Security.temporary()
    for name, text in (("cert.pem", made.tls_client_cert), ("key.pem", made.tls_client_key)):
        (folder / name).write_text(text)
    context = trusting()
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def trusting():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def heard(listener, context):
    """What somebody hears at the lab's port who knows the secret, and speaks TLS with this context."""
    context = context or trusting()
    try:
        with socket.create_connection(listener.address, 5) as plain, context.wrap_socket(plain) as line:
            line.sendall(pack({"name": "x", "secret": listener.secret, "claim": {}}))
            return line.recv(1)
    except OSError:
        return b""
