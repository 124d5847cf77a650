"""A panel over a real lab and over a real server, by its view; what a browser makes of it is test_jupyter.py's."""

import threading
import time

import ipywidgets
import pytest

from harmonia_lab.errors import Disconnected, ErrorCode, InvalidRequest, MetadataError, Refused
from harmonia_lab.protocol.events import AudioPreview
from harmonia_lab.widgets.event_sources import ServerEvents
from harmonia_lab.widgets.panel import KEPT_SONGS, Panel, _keep_media
from tests.server.engines import METADATA, Player, Writer, make_lab
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.usefixtures("patience")


@pytest.fixture
def gate():
    return threading.Event()


@pytest.fixture
def lab(tmp_path, gate):
    with make_lab(tmp_path, metadata=Writer(gate=gate), audio=Player()) as lab:
        yield lab


def until(panel, **wanted):
    """Waits until the panel's view has these values, and returns it."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        shown = panel.view
        if all(shown[name] == value for name, value in wanted.items()):
            return shown
        assert time.monotonic() < deadline, shown
        time.sleep(0.01)


def click(panel, what, name=""):
    panel.widget._handle_custom_msg({"ask": what, "name": name}, [])


def drawn(panel, **wanted):
    """As `until`, of what was sent to the browser."""
    deadline = time.monotonic() + PATIENCE_S
    while not all(panel.widget.view.get(name) == value for name, value in wanted.items()):
        assert time.monotonic() < deadline, panel.widget.view
        time.sleep(0.01)
    return panel.widget.view


def test_a_panel_shows_its_song_from_waiting_to_done_with_sound_picture_and_files(lab, gate):
    job = lab.submit("A story.", seconds=2)
    panel = job.panel()
    assert drawn(panel, status="processing")["canCancel"]
    gate.set()
    shown = drawn(panel, status="completed")
    assert (shown["title"], shown["overall"]) == (METADATA.title, 100.0)
    assert panel.settled.wait(PATIENCE_S)
    assert panel.widget.audio
    assert panel.widget.picture.startswith(b"\x89PNG")
    assert panel.widget.files[0] == "song.flac"
    assert {"stems/1-piano.flac", "song.mid"} <= set(panel.widget.files)
    assert "audio/mpeg" in panel.summary()[0]["text/html"]


def test_a_click_on_cancel_cancels_and_a_second_one_says_nothing_new(lab):
    job = lab.submit("A story.", seconds=2)
    panel = job.panel()
    until(panel, status="processing")
    click(panel, "cancel")
    assert not drawn(panel, status="cancelled")["canCancel"]
    assert job.wait(PATIENCE_S)
    click(panel, "cancel")
    assert drawn(panel, notice="")["status"] == "cancelled"


def test_a_click_that_comes_too_late_is_answered_on_the_panel(lab, gate):
    gate.set()
    panel = lab.submit("A story.", seconds=2).panel()
    assert panel.settled.wait(PATIENCE_S)
    click(panel, "cancel")
    deadline = time.monotonic() + PATIENCE_S
    while "It is completed." not in panel.widget.view["notice"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_after_a_failure_retry_makes_the_song_on_the_same_panel(lab, gate):
    lab.metadata_engine.errors = [MetadataError("It went away.", code=ErrorCode.METADATA_INVALID)]
    gate.set()
    panel = lab.submit("A story.", seconds=2).panel()
    assert drawn(panel, status="failed")["canRetry"]
    assert panel.settled.wait(PATIENCE_S)
    assert "It went away." in panel.summary()[0]["text/html"]
    click(panel, "retry")
    assert drawn(panel, status="completed")["error"] == ""
    assert panel.settled.wait(PATIENCE_S)
    assert panel.widget.audio


def test_files_are_handed_over_by_their_listed_names_and_no_others(lab, gate, monkeypatch):
    gate.set()
    panel = lab.submit("A story.", seconds=2).panel()
    assert panel.settled.wait(PATIENCE_S)
    sent = []
    monkeypatch.setattr(type(panel.widget), "send", lambda self, content, buffers=None: sent.append((content, buffers)))
    click(panel, "file", "../../home/journal.sqlite3")
    until(panel, notice="There is no such file.")
    click(panel, "file", "song.flac")
    deadline = time.monotonic() + PATIENCE_S
    while not sent:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert drawn(panel, notice="")
    ((content, (data,)),) = sent
    assert content == {"file": "song.flac"}
    assert data.startswith(b"fLaC")


def test_a_panel_that_settles_again_pushes_no_other_out(lab, gate):
    gate.set()
    panels = [lab.submit("A story.", seconds=1).panel() for _ in range(2)]
    for each in panels:
        assert each.widget
        assert each.settled.wait(PATIENCE_S)
    for _ in range(KEPT_SONGS):
        _keep_media(panels[1])
    assert all(each.widget.audio for each in panels)


def test_older_panels_free_sound_and_picture_and_load_them_again_when_shown(lab, gate, monkeypatch):
    gate.set()
    panels = []
    for _ in range(KEPT_SONGS + 1):
        panels.append(lab.submit("A story.", seconds=1).panel())
        assert panels[-1].widget
        assert panels[-1].settled.wait(PATIENCE_S)
    first = panels[0]
    deadline = time.monotonic() + PATIENCE_S
    while first.widget.audio or first.widget.picture:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert first.widget.files
    assert all(panel.widget.audio for panel in panels[1:])
    shown = []
    monkeypatch.setattr("harmonia_lab.widgets.panel.in_kernel", lambda: True)
    monkeypatch.setattr("harmonia_lab.widgets.panel.has_live_frontend", lambda: True)
    monkeypatch.setattr("harmonia_lab.widgets.panel.display_object", lambda widget: None)
    monkeypatch.setattr("harmonia_lab.widgets.panel._show", lambda bundle, output=None: shown.append(bundle) or "id")
    first.display()
    while not any("<audio" in bundle.get("text/html", "") for bundle in shown):
        assert time.monotonic() < deadline + PATIENCE_S
        time.sleep(0.01)
    assert first.widget.audio


def test_a_new_lab_shows_what_the_journal_kept_and_what_a_dead_process_left_can_be_retried(tmp_path, gate):
    gate.set()
    with make_lab(tmp_path, metadata=Writer(gate=gate)) as lab:
        song = lab.compose("A story.", seconds=2, progress=False)
    with make_lab(tmp_path) as lab:
        panel = lab.panel(song.generation_id)
        assert until(panel, status="completed")["title"] == METADATA.title
        assert panel.settled.wait(PATIENCE_S)
        assert panel.summary()[1]["image/png"]
        assert lab.panel(song.generation_id) is panel
        with pytest.raises(Refused, match="no generation nobody"):
            lab.panel("nobody")


def test_the_same_class_shows_a_generation_of_any_server(lab, gate, tmp_path):
    server = lab.serve(port=0)
    token = server.token("ann")
    with pytest.raises(Refused):
        Panel(server.url, server.token("bob"), _started(server, token))
    gate.set()
    panel = Panel(server.url, token, _started(server, token, "g2"))
    try:
        assert panel.settled.wait(PATIENCE_S)
        assert panel.view["title"] == METADATA.title
        assert panel.view["memory"] == ""
        stems = ["stems/1-piano.flac", "stems/2-double-bass.flac"]
        assert panel.widget.files == ["song.flac", *stems, "song.mid", "overview.png"]
        assert panel.widget.audio
        assert panel.widget.picture.startswith(b"\x89PNG")
    finally:
        panel.close()


def test_a_panel_says_with_whom_its_song_is_shared_and_a_viewers_has_no_cancel(lab, gate):
    server = lab.serve(port=0)
    own = lab.submit("A story.", seconds=2).panel()
    until(own, status="processing")
    lab.share(own.view["id"], "vic")
    assert drawn(own, shared="Shared with vic (viewer).")["canCancel"]
    theirs = Panel(server.url, server.token("vic"), own.view["id"])
    try:
        assert not drawn(theirs, shared="Shared with you as viewer.", status="processing")["canCancel"]
        lab.share(own.view["id"], "vic", "controller")
        assert drawn(theirs, shared="Shared with you as controller.")["canCancel"]
        lab.unshare(own.view["id"], "vic")
        drawn(theirs, shared="No longer shared with you.", canCancel=False)
        drawn(own, shared="")
    finally:
        theirs.close()
    with pytest.raises(Refused, match="no generation nothing"):
        lab.share("nothing", "vic")
    with pytest.raises(InvalidRequest):
        lab.share(own.view["id"], "")


def test_a_click_cancels_on_a_server_too(lab):
    server = lab.serve(port=0)
    token = server.token("ann")
    panel = Panel(server.url, token, _started(server, token))
    try:
        assert "another process" in until(panel, status="processing")["memory"]
        click(panel, "cancel")
        drawn(panel, status="cancelled")
    finally:
        panel.close()


def test_a_panel_that_is_closed_before_it_listens_for_previews_ends_quietly(lab, monkeypatch):
    server = lab.serve(port=0)
    token = server.token("ann")
    go_on, listening = threading.Event(), []
    listen = ServerEvents._previews

    def late(room, preview):
        listening.append(threading.current_thread())
        assert go_on.wait(PATIENCE_S)
        listen(room, preview)

    monkeypatch.setattr(ServerEvents, "_previews", late)
    Panel(server.url, token, _started(server, token)).close()
    go_on.set()
    listening[0].join(PATIENCE_S)  # pytest would tell of an error in it


def _started(server, token, name="g1"):
    from harmonia_lab import BlockingClient

    with BlockingClient(server.url) as client:
        client.connect(token)
        return client.start("A story.", seconds=2, generation_id=name).generation_id


def test_without_a_server_there_is_an_error_and_no_panel():
    with pytest.raises(Disconnected):
        Panel("http://127.0.0.1:9", "token", "g")


def test_the_plain_panel_shows_the_same_with_stock_widgets(lab, gate):
    job = lab.submit("<b>A</b> story.", seconds=2)
    panel = lab.panel(job.id, plain=True)
    box = panel.widget
    assert isinstance(box, ipywidgets.VBox)
    bars = [child for child in box.children if isinstance(child, ipywidgets.FloatProgress)]
    gate.set()
    assert panel.settled.wait(PATIENCE_S)
    deadline = time.monotonic() + PATIENCE_S
    while [bar.value for bar in bars] != [100, 100, 100]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    song = box.children[-1].children
    assert [type(child) for child in song] == [ipywidgets.Image, ipywidgets.Audio]
    # No widget that reads markup: words from a model would be read as such.
    kinds = {type(child) for child in box.children}
    assert not kinds & {ipywidgets.HTML, ipywidgets.HTMLMath}


def test_the_plain_panel_cancels(lab):
    job = lab.submit("A story.", seconds=2)
    panel = lab.panel(job.id, plain=True)
    until(panel, status="processing")
    (buttons,) = [child for child in panel.widget.children if isinstance(child, ipywidgets.HBox)]
    buttons.children[0].click()
    until(panel, status="cancelled")


def test_audio_that_is_still_being_made_is_sent_to_the_panel(lab, gate, monkeypatch):
    job = lab.submit("A story.", seconds=2)
    panel = job.panel()
    sent = []
    monkeypatch.setattr(type(panel.widget), "send", lambda self, content, buffers=None: sent.append((content, buffers)))
    piece = AudioPreview(
        generation_id=job.id, instrument="piano", index=3, start_seconds=1.5, mime_type="audio/wav", audio=b"RIFF"
    )
    lab.events(piece)
    lab.events(piece.model_copy(update={"generation_id": "another"}))
    assert sent == [({"preview": {"instrument": "piano", "index": 3, "type": "audio/wav"}}, [b"RIFF"])]


def test_a_closed_panel_hears_nothing_more(lab, gate):
    job = lab.submit("A story.", seconds=2)
    panel = job.panel()
    until(panel, status="processing")
    panel.close()
    panel.close()
    gate.set()
    job.result(PATIENCE_S)
    assert panel.view["status"] == "processing"
    assert lab.panel(job.id).view["status"] == "completed"
