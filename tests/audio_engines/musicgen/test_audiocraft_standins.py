"""audiocraft beside a current torch, in any order of imports and without harm to others: each in a new process."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harmonia_lab.audio_engines.musicgen.chroma import chroma_filters

ROOT = Path(__file__).parents[2]
LOAD = "from harmonia_lab.audio_engines.musicgen.audiocraft_standins import load_audiocraft; load_audiocraft()"
STANDINS = ("av", "demucs", "flashy", "librosa", "num2words", "spacy", "torchaudio", "xformers", "audiocraft.solvers")


def run(*lines, warnings="error"):
    program = "\n".join(lines)
    done = subprocess.run(
        [sys.executable, "-W", warnings, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_that_stands_in_is_left_in_sys_modules():
    found = run(LOAD, f"import sys; print([name for name in {STANDINS} if name in sys.modules])")
    assert found.strip() == "[]"


@pytest.mark.parametrize("first", ["torch", "librosa", "scipy"])
def test_what_was_imported_before_is_the_same_afterwards(first):
    # librosa brings warnings of its own
    run(
        f"import {first} as before",
        LOAD,
        f"import sys, {first} as after; assert after is before and sys.modules['{first}'] is before",
        "from audiocraft.models import MusicGen",
        warnings="default",
    )


@pytest.mark.parametrize("before", ["", "import transformers", "from transformers import T5EncoderModel"])
def test_transformers_stays_healthy(checkpoint, before):
    out = run(
        before,
        LOAD,
        "import importlib.util, transformers",
        "from transformers.utils import is_torchaudio_available, is_librosa_available",
        "assert is_torchaudio_available() == (importlib.util.find_spec('torchaudio') is not None)",
        "assert is_librosa_available() == (importlib.util.find_spec('librosa') is not None)",
        "from transformers import T5EncoderModel, MusicgenForConditionalGeneration, AutoProcessor",
        f"T5EncoderModel.from_pretrained({str(checkpoint('tiny') / 't5')!r})",
        "print('healthy')",
        warnings="default",
    )
    assert out.strip() == "healthy"


def test_music_comes_out_with_a_prompt_and_without_a_word_on_standard_output(checkpoint):
    run(
        LOAD,
        "import torch; torch.set_num_threads(1)",
        "from audiocraft.models import MusicGen",
        f"model = MusicGen.get_pretrained({str(checkpoint('tiny'))!r}, device='cpu')",
        "model.set_generation_params(duration=1.0)",
        "assert model.generate(['calm piano', 'drums']).shape == (2, 1, 32000)",
        # a prompt is taken in several steps at once: the place where audiocraft would ask xformers
        "assert model.generate_continuation(torch.randn(1, 1, 16000), 32000, ['drums']).shape == (1, 1, 32000)",
    )


def test_a_melody_model_takes_a_recording_without_a_source_separator(checkpoint):
    run(
        LOAD,
        "import torch; torch.set_num_threads(1)",
        "from audiocraft.models import MusicGen",
        f"model = MusicGen.get_pretrained({str(checkpoint('tiny-melody'))!r}, device='cpu')",
        "model.set_generation_params(duration=0.5)",
        "assert model.generate_with_chroma(['drums'], torch.randn(1, 1, 44100), 44100).shape == (1, 1, 16000)",
    )


def test_a_missing_package_is_named_and_nothing_half_imported_stays():
    out = run(
        "import sys; sys.modules['omegaconf'] = None",
        "from harmonia_lab.audio_engines.musicgen.audiocraft_standins import load_audiocraft",
        "from harmonia_lab.errors import HarmoniaError",
        "try: load_audiocraft()",
        "except HarmoniaError as error: print(error.code, error)",
        "assert not [name for name in sys.modules if name.partition('.')[0] == 'audiocraft']",
        "del sys.modules['omegaconf']; load_audiocraft()",
    )
    assert "MUSICGEN_UNAVAILABLE" in out
    assert "omegaconf" in out
    assert "harmonia setup musicgen" in out


@pytest.mark.parametrize(("sr", "n_fft"), [(32000, 16384), (22050, 2048)])
def test_chroma_filters_are_librosas(sr, n_fft):
    from librosa import filters

    np.testing.assert_allclose(
        chroma_filters(sr=sr, n_fft=n_fft), filters.chroma(sr=sr, n_fft=n_fft, tuning=0), atol=1e-7
    )
