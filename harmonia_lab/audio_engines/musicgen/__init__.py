"""MusicGen through audiocraft: the engine, what it loads, and the decode loop. `engine.py` is the way in.

engine, rendering, settings, prompts    a song: attempts, batches, progress; what can be set; what the model is told
models, checkpoints, memory, install    what is loaded, from where, whether it fits; how audiocraft gets here
decoder, decoding, windows, sampling, kv_cache, lm_weights, packed_weights    tokens
gpu_step, step_keeper, triton_kernels, triton_sources, plain_kernels, kernel_plans    tokens on a GPU
encodec_stream    sound          melody_guidance, chroma, plan_chroma, recordings    what it follows
audiocraft_standins, random_checkpoint    what can't be had: packages that are never called, trained weights
"""
