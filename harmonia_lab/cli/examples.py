"""Examples for the help text of each command. Owns nothing else; a test runs each through the parser."""

from __future__ import annotations

__all__ = ["EXAMPLES"]

EXAMPLES: dict[str, tuple[str, ...]] = {
    "song": (
        'harmonia song "A lighthouse keeper\'s last night" --seconds 30 --seed 7',
        "harmonia song - --genre jazz --bpm 96 --out night < story.txt",
        "harmonia song --from songs/the-lamp-keeper-1a2b3c4d/metadata.json --seed 8",
        "harmonia song 'A letter home' --prompt 'slow felt piano, rain' --negative-prompt drums --cfg-coef 4",
    ),
    "batch": (
        "harmonia batch songs.csv --out night",
        "harmonia batch songs.jsonl --out night --audio musicgen --audio-model small",
        "harmonia batch songs.csv --check",
    ),
    "study": (
        "harmonia study decoders.toml --check",
        "harmonia study decoders.toml --out decoders",
        "harmonia study --again decoders --out again",
    ),
    "listen": (
        "harmonia listen decoders --kind pairs --out test.html",
        "harmonia listen --key test.key.json --answers returned",
        "harmonia listen night --kind scales --serve --title 'Which band?'",
        "harmonia listen --test 1a2b3c4d5e6f --invite ann bob --url https://songs.example",
    ),
    "serve": (
        "harmonia serve --port 3333",
        "harmonia serve --settings lab.json --public-url https://songs.example --json",
    ),
    "token": (
        "harmonia token ann",
        "harmonia token ann --role admin --ttl 86400",
        "harmonia token ann --revoke",
    ),
    "verify": (
        "harmonia verify songs/the-lamp-keeper-1a2b3c4d",
        "harmonia verify songs/the-lamp-keeper-1a2b3c4d --rerun --json",
    ),
    "clean": (
        "harmonia clean --dry-run --keep-days 90 --keep-bytes 20G",
        "harmonia clean --lift-quarantine 1a2b3c4d5e6f",
    ),
    "export": (
        "harmonia export songs/the-lamp-keeper-1a2b3c4d --format mp3 --midi --out for-ann",
        "harmonia export night --format audiofolder --out dataset",
    ),
    "doctor": (
        "harmonia doctor",
        "harmonia doctor --metadata ollama --metadata-model llama3.2 --audio musicgen",
    ),
    "models": (
        "harmonia models",
        "harmonia models ~/checkpoints --json",
        "harmonia models --fetch small",
    ),
    "bench": (
        "harmonia bench pipeline --runs 5 --json figures.json",
        "harmonia bench decode --size tiny --batches 1,4",
    ),
    "protocol": (
        "harmonia protocol typescript > harmonia.mts",
        "harmonia protocol asyncapi > asyncapi.json",
    ),
    "setup": (
        "harmonia setup embedded",
        "harmonia setup musicgen --random tiny models/tiny",
    ),
    "completion": (
        "harmonia completion bash > ~/.local/share/bash-completion/completions/harmonia",
        'harmonia completion zsh > "${fpath[1]}/_harmonia"',
    ),
}
"""Command → command lines, as a person types them into a shell."""
