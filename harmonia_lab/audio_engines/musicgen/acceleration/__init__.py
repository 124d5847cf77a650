"""Other people's MusicGen on our decode loop: `harmonia_lab.accelerate`, in `accelerate.py`.

accelerate    the public function, and what it returns
served_model, hooks    one accelerated model: methods replaced, weights packed, its own loop where ours can't serve
plain_modules, weight_stamps    whether a model is as its class made it; whether its weights are those that were packed
audiocraft_lm    audiocraft's LMModel (MusicGen, AudioGen)
transformers_musicgen, transformers_weights, transformers_steps    transformers' MusicGen, text and melody
audiocraft_import    `import audiocraft` without the packages that its inference never calls
"""
