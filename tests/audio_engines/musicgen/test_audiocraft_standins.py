"""audiocraft beside a current torch, in any order of imports and without harm to others: in new processes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harmonia_lab.audio_engines.musicgen.chroma import chroma_filters

ROOT = Path(__file__).parents[3]
LOAD = "from harmonia_lab.audio_engines.musicgen.audiocraft_standins import load_audiocraft; load_audiocraft()"
STANDINS = ("av", "demucs", "flashy", "librosa", "num2words", "spacy", "torchaudio", "xformers", "audiocraft.solvers")


def run(*lines, warnings="error"):
    program = "\n".join(lines)
    done = subprocess.run(
        [sys.executable, "-W", warnings, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def transformers_is_healthy(checkpoint):
    """Lines of a program that asks transformers what it has, and loads a model with it."""
    return (
        "import importlib.util, transformers",
        "from transformers.utils import is_torchaudio_available, is_librosa_available",
        "assert is_torchaudio_available() == (importlib.util.find_spec('torchaudio') is not None)",
        "assert is_librosa_available() == (importlib.util.find_spec('librosa') is not None)",
        "from transformers import T5EncoderModel, MusicgenForConditionalGeneration, AutoProcessor",
        f"T5EncoderModel.from_pretrained({str(checkpoint('tiny') / 't5')!r})",
        "print('healthy')",
    )


@pytest.fixture(scope="module")
def imported_first(checkpoint, tmp_path_factory):
    """What a process finds in which audiocraft is imported before everything else, where a warning is an error."""
    found = tmp_path_factory.mktemp("found") / "found.json"
    said = run(
        LOAD,
        f"import json, pathlib, sys; found = {{'left': [name for name in {STANDINS} if name in sys.modules]}}",
        "import torch; torch.set_num_threads(1)",
        "from audiocraft.models import MusicGen",
        f"model = MusicGen.get_pretrained({str(checkpoint('tiny'))!r}, device='cpu')",
        "model.set_generation_params(duration=1.0)",
        "found['music'] = model.generate(['calm piano', 'drums']).shape",
        # a prompt is taken in several steps at once: the place where audiocraft would ask xformers
        "found['continued'] = model.generate_continuation(torch.randn(1, 1, 16000), 32000, ['drums']).shape",
        f"model = MusicGen.get_pretrained({str(checkpoint('tiny-melody'))!r}, device='cpu')",
        "model.set_generation_params(duration=0.5)",
        "found['melody'] = model.generate_with_chroma(['drums'], torch.randn(1, 1, 44100), 44100).shape",
        f"pathlib.Path({str(found)!r}).write_text(json.dumps(found))",
        "import warnings; warnings.simplefilter('default')",  # transformers brings warnings of its own
        *transformers_is_healthy(checkpoint),
    )
    return json.loads(found.read_text()) | {"said": said}


def test_nothing_that_stands_in_is_left_in_sys_modules(imported_first):
    assert imported_first["left"] == []


def test_music_comes_out_with_a_prompt(imported_first):
    assert imported_first["music"] == [2, 1, 32000]
    assert imported_first["continued"] == [1, 1, 32000]


def test_a_melody_model_takes_a_recording_without_a_source_separator(imported_first):
    assert imported_first["melody"] == [1, 1, 16000]


def test_transformers_stays_healthy_and_standard_output_has_no_word_of_audiocrafts(imported_first):
    assert imported_first["said"] == "healthy\n"


@pytest.mark.stress
def test_what_was_imported_before_is_the_same_afterwards(checkpoint):
    names = ("torch", "librosa", "scipy", "transformers", "transformers.models.t5.modeling_t5")
    said = run(
        "import torch, librosa, scipy",
        "from transformers import T5EncoderModel",
        f"import sys; before = {{name: sys.modules[name] for name in {names}}}",
        LOAD,
        "assert {name: sys.modules[name] for name in before} == before",
        "from audiocraft.models import MusicGen",
        "assert {name: sys.modules[name] for name in before} == before",
        *transformers_is_healthy(checkpoint),
        warnings="default",  # librosa brings warnings of its own
    )
    assert said == "healthy\n"


WITHOUT_A_PACKAGE = (
    "import transformers",
    "import sys; sys.modules['omegaconf'] = None",
    "from harmonia_lab.audio_engines.musicgen.audiocraft_standins import load_audiocraft",
    "from harmonia_lab.errors import HarmoniaError",
    "try: load_audiocraft()",
    "except HarmoniaError as error: print(error.code, error)",
    "assert not [name for name in sys.modules if name.partition('.')[0] == 'audiocraft']",
)
"""Lines of a program in which transformers was imported before, but none of its models."""


def test_a_missing_package_is_named_and_nothing_half_imported_stays():
    out = run(*WITHOUT_A_PACKAGE, warnings="default")
    assert "MUSICGEN_UNAVAILABLE" in out
    assert "omegaconf" in out
    assert "harmonia setup musicgen" in out


@pytest.mark.stress
def test_a_package_that_comes_back_is_used_and_transformers_stays_healthy(checkpoint):
    again = ("del sys.modules['omegaconf']; load_audiocraft()", *transformers_is_healthy(checkpoint))
    assert run(*WITHOUT_A_PACKAGE, *again, warnings="default").endswith("healthy\n")


@pytest.mark.parametrize(("sr", "n_fft"), [(32000, 16384), (22050, 2048)])
def test_chroma_filters_are_librosas(sr, n_fft):
    from librosa import filters

    np.testing.assert_allclose(
        chroma_filters(sr=sr, n_fft=n_fft), filters.chroma(sr=sr, n_fft=n_fft, tuning=0), atol=1e-7
    )


def test_audiocrafts_own_loading_runs_no_program_either(checkpoint, tmp_path, monkeypatch):
    import os
    import shutil

    import torch
    from audiocraft.models import MusicGen

    from harmonia_lab.errors import AudioError

    class Mischief:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    folder = shutil.copytree(checkpoint("tiny"), tmp_path / "model")
    torch.save({"best_state": Mischief(), "xp.cfg": ""}, folder / "state_dict.bin")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(AudioError, match="more than weights"):
        MusicGen.get_pretrained(str(folder), device="cpu")
    assert not (tmp_path / "ran").exists()
