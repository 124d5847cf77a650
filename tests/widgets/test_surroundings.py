"""What a cell keeps and shows where a package is missing, a panel is closed, or nobody draws widgets."""

import gc
import sys
import threading
import weakref
from pathlib import Path

import anywidget
import pytest

from harmonia_lab.errors import HarmoniaError
from harmonia_lab.protocol.models import Song
from harmonia_lab.widgets import faces, frontend, monitor, panel, replaced
from harmonia_lab.widgets.event_sources import reached
from harmonia_lab.widgets.live import LiveFrontend
from harmonia_lab.widgets.page_widget import PageWidget
from harmonia_lab.widgets.panel import Panel
from harmonia_lab.widgets.songs import song_bundle, song_text
from tests.server.engines import METADATA, Player, Writer, make_lab
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.usefixtures("patience")


@pytest.fixture
def gate():
    return threading.Event()


@pytest.fixture
def lab(tmp_path, gate):
    with make_lab(tmp_path, metadata=Writer(gate=gate), audio=Player()) as lab:
        yield lab


@pytest.fixture
def cell(monkeypatch):
    """The outputs of a cell in a page: display id → the bundle that is there now."""
    outputs = {}

    def show(bundle, output=None):
        name = output or f"output {len(outputs)}"
        outputs[name] = bundle
        return name

    monkeypatch.setattr(panel, "in_kernel", lambda: True)
    monkeypatch.setattr(panel, "has_live_frontend", lambda: True)
    monkeypatch.setattr(panel, "display_object", lambda widget: None)
    monkeypatch.setattr(panel, "_show", show)
    return outputs


def without(monkeypatch, *packages):
    """These packages are not installed."""
    for module in (faces, frontend, panel):
        monkeypatch.setattr(module, "installed", lambda name: name not in packages)


def assert_sound_and_picture(cell):
    words, picture = cell.values()
    assert "<audio" in words["text/html"]
    assert "image/png" in picture


def test_a_panel_that_is_closed_right_after_the_end_leaves_sound_and_picture(lab, gate, cell):
    job = lab.submit("A story.", seconds=1)
    shown = job.panel()
    shown.display()
    gate.set()
    job.result(PATIENCE_S)
    shown.close()
    lab.close()
    assert_sound_and_picture(cell)


def test_a_lab_that_is_closed_right_after_the_end_leaves_them_too(lab, gate, cell):
    job = lab.submit("A story.", seconds=1)
    job.panel().display()
    gate.set()
    job.result(PATIENCE_S)
    lab.close()
    assert_sound_and_picture(cell)


def test_so_does_a_panel_of_the_labs_own_server(lab, gate, cell):
    gate.set()
    server = lab.serve(port=0)
    song = lab.compose("A story.", seconds=1, progress=False)
    lab.share(song.generation_id, "ann")
    remote = Panel(server.url, server.token("ann"), song.generation_id)
    remote.display()
    remote.close()
    lab.close()
    assert_sound_and_picture(cell)


def test_a_panel_that_is_closed_before_the_end_leaves_what_there_was(lab, cell):
    job = lab.submit("A story.", seconds=1)
    shown = job.panel()
    shown.display()
    until(lambda: shown.view["status"] == "processing")
    shown.close()
    words, _ = cell.values()
    assert job.id in words["text/html"]
    shown.display()  # a closed one shows no widget
    assert len(cell) == 4


def test_a_lab_that_is_closed_before_the_end_leaves_the_cancel(lab, cell):
    job = lab.submit("A story.", seconds=1)
    job.panel().display()
    until(lambda: job.panel().view["status"] == "processing")
    lab.close()
    words, _ = cell.values()
    assert "Cancelled" in words["text/plain"]


def test_closed_widgets_are_freed(lab, gate):
    gate.set()
    jobs = [lab.submit("A story.", seconds=1) for _ in range(3)]
    panels = [job.panel() for job in jobs]
    widgets = [weakref.ref(each.widget) for each in panels]
    kept = [weakref.ref(each) for each in panels]
    tables = [lab.monitor() for _ in range(2)]
    widgets += [weakref.ref(table.widget) for table in tables]
    for each in [*panels, *tables]:
        each.close()
    del panels, tables, each
    until(lambda: gc.collect() is not None and not any(ref() for ref in [*widgets, *kept]), "their end")


def test_no_widget_is_made_of_files():
    """anywidget keeps every widget of such a class alive: manzt/anywidget#929."""
    classes = [each for each in PageWidget.__subclasses__() if each.__module__.startswith("harmonia_lab")]
    assert len(classes) >= 2
    others = anywidget.AnyWidget.__subclasses__()
    assert [each for each in others if each.__module__.startswith("harmonia_lab")] == [PageWidget]
    for each in classes:
        assert isinstance(each._esm, str)
        assert isinstance(each._css, str)
    assert monitor
    assert LiveFrontend


@pytest.mark.parametrize(
    ("missing", "kind"),
    [([], "LiveFrontend"), (["anywidget"], "PlainFrontend"), (["anywidget", "ipywidgets"], "ReplacedFrontend")],
)
def test_the_best_front_end_that_is_installed_is_chosen(lab, monkeypatch, cell, missing, kind):
    without(monkeypatch, *missing)
    shown = lab.submit("A story.", seconds=1).panel()
    shown.display()
    assert type(shown._frontend).__name__ == kind
    shown.close()


def test_a_page_without_ipywidgets_gets_an_output_that_is_replaced(lab, gate, monkeypatch, cell):
    without(monkeypatch, "anywidget", "ipywidgets")
    monkeypatch.setattr(panel, "display_object", lambda widget: widget._ipython_display_())
    published = []
    monkeypatch.setattr(
        replaced, "publish", lambda bundle, name, *, update=False: published.append((name, update, bundle["text/html"]))
    )
    job = lab.submit("A story.", seconds=1)
    job.panel().display()
    until(lambda: "Working on" in published[-1][2])
    assert "<progress" in published[-1][2]
    assert f"lab.cancel(&#x27;{job.id}&#x27;)" in published[-1][2]
    gate.set()
    assert job.panel().settled.wait(PATIENCE_S)
    until(lambda: published[-1][2] == "")
    assert_sound_and_picture(cell)
    assert len({name for name, _, _ in published}) == 1
    assert [update for _, update, _ in published][:2] == [False, True]


def test_words_from_a_model_are_no_markup_in_it(lab):
    shown = lab.submit("A story.", seconds=1).panel().view
    html = replaced.markup(shown | {"title": "<script>", "lyrics": "<img>", "facts": "<b>", "error": "<i>"})
    assert all(each not in html for each in ("<script>", "<img>", "<b>", "<i>"))


def test_a_table_and_a_form_say_what_to_install(lab, monkeypatch):
    without(monkeypatch, "anywidget", "ipywidgets")
    for make in (lab.monitor, lab.form):
        with pytest.raises(HarmoniaError, match="is not installed") as caught:
            make()
        assert "harmonia-lab[notebook]" in caught.value.hint


def test_no_panel_needs_ipython(lab, monkeypatch):
    """A plain Python prompt, and marimo, may have none."""
    monkeypatch.setitem(sys.modules, "IPython", None)
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    without(monkeypatch, "anywidget", "ipywidgets")
    job = lab.submit("A story.", seconds=1)
    assert job._repr_mimebundle_()["text/plain"]


def test_every_object_shows_something_to_whoever_asks_for_a_bundle(lab, gate):
    gate.set()
    song = lab.compose("A story.", seconds=1, progress=False)
    job = lab.submit("A story.", seconds=1)
    job.result(PATIENCE_S)
    for each in (song, job, job.panel()):
        bundle = each._repr_mimebundle_()
        assert METADATA.title in bundle["text/plain"]
    assert "<audio" in job._repr_mimebundle_()["text/html"]
    assert "data:image/png" in job._repr_mimebundle_()["text/html"]
    table, form = lab.monitor(), lab.form()
    assert METADATA.title in table._repr_mimebundle_()["text/plain"]
    assert "narrative is empty" in form._repr_mimebundle_()["text/plain"]
    rows = [{"narrative": "A story.", "seconds": 1}]
    report = lab.batch(rows, None, check=True, say=lambda _: None)
    assert "1 not begun" in report._repr_mimebundle_()["text/html"]


def test_a_song_shows_title_player_words_and_picture(lab, gate):
    gate.set()
    song = lab.compose("A story.", seconds=1, progress=False)
    bundle = song_bundle(song)
    assert f">{METADATA.title}</h3>" in bundle["text/html"]
    assert "<audio" in bundle["text/html"]
    assert "data:image/png" in bundle["text/html"]
    assert "The boat goes out" in bundle["text/html"]
    assert song.audio_path in bundle["text/plain"]
    assert Song.shown_by(song)["text/plain"] == song_text(song)  # not in a notebook: no sound is encoded
    (Path(song.directory) / "run.json").unlink()
    bundle = song_bundle(song)
    assert METADATA.title in bundle["text/html"]
    assert "files cannot be shown" in bundle["text/html"]


@pytest.mark.parametrize(
    ("link", "url", "path", "is_at"),
    [
        ("http://127.0.0.1:3333/s/audio?sig=1", "http://127.0.0.1:3333", "socket.io", "http://127.0.0.1:3333/s/audio?sig=1"),
        (
            "http://127.0.0.1:3333/s/audio?sig=1",
            "https://hub.example?token=t",
            "/user/ann/proxy/3333/socket.io",
            "https://hub.example/user/ann/proxy/3333/s/audio?sig=1&token=t",
        ),
        (
            "https://hub.example/user/ann/proxy/3333/s/audio?sig=1",
            "https://hub.example?token=t",
            "user/ann/proxy/3333/socket.io/",
            "https://hub.example/user/ann/proxy/3333/s/audio?sig=1&token=t",
        ),
    ],
)  # fmt: skip
def test_links_lead_through_the_proxy(link, url, path, is_at):
    assert reached(link, url, path) == is_at


def test_the_form_gives_request_and_song_back_to_code(lab, gate):
    form = lab.form()
    assert (form.song, form.job) == (None, None)
    form.narrative.value, form.seconds.value = "A lighthouse.", 2
    assert (form.value.narrative, form.value.seconds) == ("A lighthouse.", 2)
    form.submit.click()
    assert form.song is None
    gate.set()
    form.job.wait(PATIENCE_S)
    assert form.song.metadata.title == METADATA.title


def test_a_terminal_shows_how_far_a_job_is_and_then_its_words_and_its_file(lab, gate, capsys):
    job = lab.submit("A story.", seconds=1)
    until(lambda: job.panel().view["status"] == "processing")
    job._ipython_display_()
    out, err = capsys.readouterr()
    assert job.id in out
    assert err == ""
    gate.set()
    song = job.result(PATIENCE_S)
    job._ipython_display_()
    out = capsys.readouterr().out
    assert METADATA.title in out
    assert song.audio_path in out


def test_a_table_of_a_closed_lab_stays_as_it_was(lab, gate, caplog):
    gate.set()
    lab.compose("A story.", seconds=1, progress=False)
    table = lab.monitor()
    lab.close()
    table.paint()
    assert not table.live
    assert METADATA.title in table._repr_mimebundle_()["text/plain"]


@pytest.mark.stress
def test_a_download_whose_file_is_gone_says_so_on_the_panel(lab, gate):
    gate.set()
    song = lab.compose("A story.", seconds=1, progress=False)
    shown = lab.panel(song.generation_id)
    assert shown.settle(PATIENCE_S)
    Path(song.audio_path).unlink()
    shown.widget._handle_custom_msg({"ask": "file", "name": "song.flac"}, [])
    until(lambda: "song.flac" in shown.view["notice"])
