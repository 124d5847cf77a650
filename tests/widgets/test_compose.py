"""The form: what is filled in is what is asked for, and the words can be edited before they are sung."""

import threading

import pytest

from harmonia_lab.music.seeds import narrative_digest
from harmonia_lab.testing import FakeOllama
from tests.server.engines import METADATA, Player, Writer, make_lab
from tests.waiting import until


@pytest.fixture
def gate():
    return threading.Event()


@pytest.fixture
def lab(tmp_path, gate):
    with make_lab(tmp_path, metadata=Writer(gate=gate), audio=Player()) as lab:
        yield lab


def shown(form):
    (panel,) = form.place.children
    return panel.view


def test_what_is_filled_in_is_asked_for_and_what_is_left_open_is_not(lab):
    form = lab.form()
    form.narrative.value = "A lighthouse."
    asked = form.request().model_dump(exclude_none=True)
    assert asked == {"narrative": "A lighthouse.", "seconds": 20.0, "wishes": True}
    form.seconds.value, form.bpm.value, form.key.value, form.seed.value = 12, "96", "A minor", "7"
    form.genre.value, form.instruments.value, form.language.value = "folk", ("piano", "cello"), "Deutsch"
    asked = form.request()
    assert asked.language == "de"
    assert (asked.seconds, asked.bpm, asked.key, asked.seed, asked.genre) == (12, 96, "A minor", 7, "folk")
    assert [instrument.name for instrument in asked.instruments] == ["piano", "cello"]


def test_a_mistake_is_said_on_the_form_and_nothing_is_made(lab):
    form = lab.form()
    form.submit.click()
    assert "narrative is empty" in form.problem.value
    form.narrative.value, form.bpm.value = "A lighthouse.", "fast"
    form.submit.click()
    assert form.problem.value.startswith("bpm")
    assert form.place.children == ()
    assert lab.journal.jobs() == []


def test_the_song_is_made_on_a_panel_below_the_form(lab, gate):
    gate.set()
    form = lab.form()
    form.narrative.value, form.seconds.value, form.audio.value = "A lighthouse.", 2, "sketch"
    form.submit.click()
    until(lambda: shown(form).get("status") == "completed")
    assert form.problem.value == ""
    assert lab.log.rows()[-1]["audio_engine"] == "sketch"


def test_the_words_alone_are_written_edited_and_sung(lab, gate):
    lab.audio_engine.gate = sung = threading.Event()
    form = lab.form()
    form.narrative.value, form.seconds.value = "A lighthouse.", 2
    form.write.click()
    assert form.editor.layout.display == "none"
    gate.set()
    until(lambda: form.editor.layout.display == "")
    until(lambda: shown(form).get("status") == "cancelled")
    digest = narrative_digest("A lighthouse.")
    assert form.metadata() == METADATA.model_copy(update={"narrative_digest": digest})
    form._fields["title"].value, form._fields["bpm"].value = "High Tide", 60
    form._fields["instruments"].value = "double bass, flute"
    sung.set()
    form.again.click()
    until(lambda: shown(form).get("status") == "completed")
    made = lab.journal.jobs()[0].result.metadata
    assert (made.title, made.bpm, made.lyrics) == ("High Tide", 60, METADATA.lyrics)
    assert [(i.name, i.role) for i in made.instruments] == [("double bass", "bass"), ("flute", "lead")]


def test_a_song_that_is_done_before_the_form_looks_at_it_can_be_edited_all_the_same(lab, gate, monkeypatch):
    gate.set()
    submit = lab.submit_request

    def made(request, **options):
        job = submit(request, **options)
        job.result(60)
        return job

    monkeypatch.setattr(lab, "submit_request", made)
    form = lab.form()
    form.narrative.value, form.seconds.value = "A lighthouse.", 2
    form.submit.click()
    assert not form.edit.disabled


def test_words_that_cannot_be_sung_are_refused_on_the_form(lab, gate):
    gate.set()
    form = lab.form()
    form.narrative.value, form.seconds.value = "A lighthouse.", 2
    form.submit.click()
    until(lambda: not form.edit.disabled)
    form.edit.click()
    form._fields["key"].value = "H moll"
    form.again.click()
    assert "is no key" in form.problem.value


def test_the_models_of_an_ollama_server_can_be_chosen(tmp_path, monkeypatch):
    from harmonia_lab import Lab

    with FakeOllama() as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        with Lab(metadata="ollama", songs=tmp_path, home=tmp_path) as lab:
            names = [value for _, value in lab.form().model.options]
    assert names[0] == ""
    assert len(names) > 1


def test_settings_of_the_sound_are_folded_away_and_asked_for_when_they_are_filled_in(lab):
    form = lab.form()
    form.narrative.value = "A lighthouse."
    assert form.sound.selected_index is None
    form.options["prompt"].value, form.options["cfg_coef"].value = " rain ", "4.5"
    assert form.request().audio_options == {"prompt": "rain", "cfg_coef": 4.5}
    form.submit.click()
    assert form.problem.value.startswith("The fake engine takes no cfg_coef")
    form.options["cfg_coef"].value = ""
    form.submit.click()
    assert form.problem.value == ""
    assert lab.journal.request(lab.journal.jobs()[0].id).audio_options == {"prompt": "rain"}
