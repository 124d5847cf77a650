"""Help texts with examples, and the shells' completion."""

import shlex
import subprocess

import pytest

from harmonia_lab.cli.arguments import _COMMANDS, make_parser
from harmonia_lab.cli.examples import EXAMPLES


def test_every_command_has_examples_and_every_example_is_a_command():
    assert EXAMPLES.keys() == _COMMANDS.keys()
    for command, lines in EXAMPLES.items():
        for line in lines:
            program, *given = shlex.split(line)
            given = given[: next((i for i, part in enumerate(given) if part in ("<", ">")), None)]
            assert (program, given[0]) == ("harmonia", command)
            make_parser(given).parse_args(given)  # raises UsageError


@pytest.mark.parametrize("command", ["batch", "song"])
def test_a_help_text_ends_with_its_examples_as_they_are_typed(harmonia, command):
    said = harmonia(command, "--help").stdout.decode()
    assert said.rstrip().endswith(EXAMPLES[command][-1])
    assert all(f"\n  {line}\n" in said for line in EXAMPLES[command])
    assert "COMMAND --help" in harmonia("--help").stdout.decode()


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    from tests.cli.conftest import CommandLine

    folder = tmp_path_factory.mktemp("completion")
    path = folder / "harmonia.bash"
    path.write_bytes(CommandLine(folder)("completion", "bash").stdout)
    return path


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        (["so"], ["song"]),
        (["song", "--metadata", "em"], ["embedded"]),
        (["song", "--audio-m"], ["--audio-model"]),
        (["bench", "de"], ["decode"]),
        (["setup", ""], ["embedded", "diffusers", "musicgen"]),
        (["verify", "fold"], ["folder"]),
    ],
)
def test_bash_completes_commands_choices_options_and_folders(script, typed, completed):
    """In bash itself, which calls the script's function as it does on a Tab. No Python starts."""
    (script.parent / "folder").mkdir(exist_ok=True)
    (script.parent / "folded.txt").touch()
    words = " ".join(map(shlex.quote, ["harmonia", *typed]))
    code = f"source {script}; COMP_WORDS=({words}); COMP_CWORD={len(typed)}; _shtab_harmonia; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, cwd=script.parent, check=True)
    assert [each for each in done.stdout.split() if not each.startswith("-") or typed[-1].startswith("-")] == completed


def test_zsh_and_tcsh_have_scripts_too(harmonia):
    assert harmonia("completion", "zsh").stdout.startswith(b"#compdef harmonia")
    assert b"complete harmonia" in harmonia("completion", "tcsh").stdout
    assert harmonia("completion", "fish").returncode == 2
