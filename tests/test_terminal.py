"""Progress as a person sees it: plain lines in a pipe, a bar on a terminal."""

import io
import itertools

from rich.console import Console

from harmonia_lab import Lab, terminal
from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine


def make_lab(tmp_path):
    return Lab(
        metadata=FakeMetadataEngine(step_s=0.15), audio=FakeAudioEngine(step_s=0.15), songs=tmp_path, home=tmp_path
    )


def test_in_a_pipe_each_new_status_is_one_line(tmp_path, capsys):
    with make_lab(tmp_path) as lab:
        lab.compose("A story.", seconds=1)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert any("lyrics: Working on the title..." in line for line in lines)
    steps = [line.split(": ")[1] for line in lines]
    assert steps[-2:] == ["Mixing audio...", "Writing the song..."]
    assert all(before != after for before, after in itertools.pairwise(steps))
    percentages = [int(line.split("%")[0]) for line in lines]
    assert percentages == sorted(percentages)


def test_on_a_terminal_a_bar_moves_and_text_from_a_model_is_no_markup(tmp_path, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(terminal, "Console", lambda **_: Console(file=screen, force_terminal=True, width=120))
    lab = make_lab(tmp_path)
    write = lab.metadata_engine.write

    def write_with_markup(request, seed, report, cancel):
        def shout(progress):
            report(type(progress)(progress.fraction, progress.step, "[bold red]A\x1b[2J title[/]", progress.tokens))

        return write(request, seed, shout, cancel)

    lab.metadata_engine.write = write_with_markup
    with lab:
        lab.compose("A story.", seconds=1)
    shown = screen.getvalue()
    assert "[bold red]A [2J title[/]" in shown
    assert "100%" in shown
