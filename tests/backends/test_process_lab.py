"""What a lab does as ever while its songs are made in another process."""

from tests.backends.conftest import SONG, isolated


def test_a_song_from_there_has_a_panel_here(lab):
    job = lab.submit(**SONG)
    panel = job.panel()
    song = job.result(60)
    assert panel.settled.wait(60)
    assert (panel.view["status"], panel.view["title"]) == ("completed", song.metadata.title)


def test_what_needs_a_folder_of_its_own_is_made_here(tmp_path):
    with isolated(tmp_path) as lab:
        song = lab.compose(**SONG, progress=False)
        assert lab.verify(song.directory, rerun=True).ok
        row = {"metadata": SONG["metadata"].to_wire(), "seconds": 1, "seed": 7}
        report = lab.batch([row], tmp_path / "out", say=lambda _: None)
        assert len(report.songs) == 1
        assert lab.server.running
