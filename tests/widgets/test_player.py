"""`lab.listen`: which songs it takes, what its widget answers, and what a page without a kernel shows."""

import time

import pytest

from harmonia_lab.errors import HarmoniaError, InvalidRequest, Refused
from harmonia_lab.widgets import player as player_module
from tests.player.songs import make_song
from tests.server.engines import make_lab
from tests.waiting import PATIENCE_S


@pytest.fixture
def lab(tmp_path):
    with make_lab(tmp_path) as lab:
        yield lab


def asked(player, monkeypatch, name):
    """What the widget sends for a sound."""
    sent = []
    monkeypatch.setattr(
        type(player.widget), "send", lambda self, content, buffers=None: sent.append((content, buffers))
    )
    player.widget._handle_custom_msg({"ask": "sound", "name": name}, [])
    deadline = time.monotonic() + PATIENCE_S
    while not sent:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return sent[0]


def test_a_song_its_job_its_folder_and_its_id_are_the_same_song(lab, tmp_path):
    job = lab.submit("A story.", seconds=2)
    song = job.result(PATIENCE_S)
    folder = tmp_path / "songs" / song.directory
    player = lab.listen(song, job, job.id, folder, str(folder))
    assert {each["id"] for each in player.songs} == {job.id}
    assert len(player.widget.songs) == 5


def test_what_is_no_finished_song_is_refused_with_what_to_do(lab, tmp_path):
    for wrong, error in (("nobody", Refused), (tmp_path, HarmoniaError)):
        with pytest.raises(error) as refused:
            lab.listen(wrong)
        assert refused.value.hint
    with pytest.raises(InvalidRequest, match="no song"):
        lab.listen()


def test_the_widget_gets_sounds_by_number_and_file_and_no_others(lab, tmp_path, monkeypatch):
    folder = make_song(tmp_path / "a")
    player = lab.listen(folder)
    for name, start in (("0/mix", b"fLaC"), ("0/stems/1-piano.flac", b"fLaC")):
        content, (data,) = asked(player, monkeypatch, name)
        assert content == {"sound": name, "missing": ""}
        assert data.startswith(start)
    for name in ("1/mix", "0/../run.json", "", "0/run.json"):
        assert asked(player, monkeypatch, name) == ({"sound": name, "missing": "There is no such sound."}, [b""])
    (folder / "song.flac").unlink()
    assert "harmonia verify" in asked(player, monkeypatch, "0/mix")[0]["missing"]
    player.close()
    player.close()


def test_a_page_without_a_kernel_gets_the_mix_in_a_frame_and_save_writes_all(lab, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(player_module, "display_object", lambda value: shown.append(value._repr_mimebundle_()))
    monkeypatch.setattr(player_module, "has_live_frontend", lambda: False)
    player = lab.listen(make_song(tmp_path / "a"), make_song(tmp_path / "b", title="Another"))
    player._ipython_display_()
    html = shown[0]["text/html"]
    assert html.startswith("<iframe")
    assert 'sandbox="allow-scripts allow-downloads"' in html
    assert "sound-0-1-piano" not in html
    page = player.save(tmp_path / "page.html")
    assert "sound-0-1-piano" in page.read_text()
    assert "A Small Boat | Another" in page.read_text()
