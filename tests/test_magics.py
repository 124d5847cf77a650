"""`%%song` and `%song`, in a real IPython shell, with a lab of fakes as the user's `lab`."""

import contextlib
import io

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from harmonia_lab.cli.engine_arguments import song_parameters
from harmonia_lab.magics import _words
from tests.server.engines import METADATA, Writer, make_lab
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.filterwarnings("default")  # IPython's own


@pytest.fixture(scope="module")
def shell():
    quiet = Config()
    quiet.HistoryManager.enabled = False
    quiet.IPCompleter.use_jedi = False
    quiet.InteractiveShell.colors = "nocolor"
    shell = InteractiveShell(config=quiet)
    shell.run_line_magic("load_ext", "harmonia_lab")
    yield shell
    shell.run_line_magic("unload_ext", "harmonia_lab")


@pytest.fixture
def lab(shell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARMONIA_HOME", str(tmp_path / "home"))
    with make_lab(tmp_path, metadata=Writer()) as lab:
        shell.user_ns["lab"] = lab
        yield lab
    for name in ("lab", "tune", "job"):
        shell.user_ns.pop(name, None)


def run(shell, source):
    """What a cell says."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        shell.run_cell(source, store_history=False)
    return said.getvalue()


def test_a_cell_is_a_story_and_the_job_is_bound(shell, lab):
    said = run(
        shell, "%%song --seconds 2 --seed 7 --as tune --instruments piano,cello\nA lighthouse keeper's\nlast night."
    )
    job = shell.user_ns["tune"]
    asked = lab.journal.request(job.id)
    assert asked.narrative == "A lighthouse keeper's\nlast night."
    assert (asked.seconds, asked.seed) == (2, 7)
    assert [each.name for each in asked.instruments] == ["piano", "cello"]
    assert METADATA.title in said
    assert job.result(PATIENCE_S).audio_path in said


def test_a_line_is_a_story_too_in_any_order_and_its_value_is_the_job(shell, lab):
    run(shell, "tune = %song A keeper's --seconds 2 night, it's late --key \"A minor\"")
    asked = lab.journal.request(shell.user_ns["tune"].id)
    assert (asked.narrative, asked.key, asked.seconds) == ("A keeper's night, it's late", "A minor", 2)


def test_another_engine_for_one_song_is_the_labs_and_other_models_make_a_lab_of_their_own(shell, lab):
    run(shell, "%song A story. --seconds 2 --audio sketch --as tune")
    assert shell.user_ns["tune"].result().engines["audio"] == "sketch"
    magic = shell.magics_manager.magics["line"]["song"].__closure__[0].cell_contents

    def lab_of(line):
        return magic._lab(song_parameters(magic._options(line, None))[0])

    own = lab_of("x --metadata embedded")
    assert own is not lab
    assert lab_of("y --metadata embedded") is own
    assert lab_of("y") is lab
    lab.close()
    assert lab_of("y") is not lab
    magic.close()
    assert own.closed


@pytest.mark.stress
def test_json_waits_and_prints_one_object(shell, lab):
    said = run(shell, "%song A story. --seconds 2 --json")
    assert f'"title": "{METADATA.title}"' in said


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("%%song --seconds 2 --sead 7\nA story.", "There is no option --sead"),
        ("%%song --bpm fast\nA story.", "argument --bpm: invalid int value: 'fast'"),
        ("%%song --bpm 9000\nA story.", "less than or equal to 220"),
        ("%%song --as 2nd\nA story.", "'2nd' is no name of a variable"),
        ("%%song --seconds 2\n\n", "narrative is empty"),
        ("%song", "narrative is empty"),
        ("%song --from nowhere.json", "nowhere.json cannot be read"),
    ],
)
def test_a_mistake_ends_in_three_lines_and_nothing_is_made(shell, lab, source, told):
    said = run(shell, source)
    assert told in said
    assert len(said.strip().splitlines()) <= 3
    assert "Traceback" not in said
    assert lab.journal.jobs() == []


def test_help_lists_the_command_lines_options_and_completion_offers_them(shell, lab):
    described = shell.object_inspect("%%song")["docstring"]
    for option in ("--seconds", "--instruments", "--audio-model", "--ollama-ca", "--as NAME"):
        assert option in described
    assert "--seconds" in run(shell, "%song --help")
    _, names = shell.complete("--se", "%%song --se", 11)
    assert {"--seconds", "--seed"} <= set(names)
    _, names = shell.complete("sk", "%song --audio sk", 16)
    assert "sketch" in names


@pytest.mark.stress
def test_loaded_twice_it_works_once(shell, lab):
    run(shell, "%reload_ext harmonia_lab")
    run(shell, "%song A story. --seconds 2 --as tune")
    assert len(lab.journal.jobs()) == 1


def test_an_apostrophe_opens_no_quotation():
    assert _words("""A keeper's night, "it's late" --key='A minor' x""") == [
        "A", "keeper's", "night,", "it's late", "--key=A minor", "x",
    ]  # fmt: skip
