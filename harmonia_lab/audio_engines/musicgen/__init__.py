"""MusicGen through audiocraft: the engine, its models, and our decode loop. `engine.py` holds the engine.

spec    what `engine_registry.py` knows of it
engine, rendering, settings, prompts    one song: attempts, batches, progress; settings; text prompts
models, checkpoints, memory, install    loading, files and licences, memory needed, installation of audiocraft
decoder, forward_pass, codebook_pattern, windows, sampling, kv_cache, lm_weights, packed_weights    generating tokens
compiled_products    the products of a step on a CPU, by a C program
cuda_graph_step, step_cache, triton_kernels, triton_sources, torch_kernels, kernel_plans    the same on a GPU
encodec_stream    tokens to audio
melody_guidance, chroma, plan_chroma, recordings    conditioning on the plan or on a recording
acceleration/    other people's MusicGen models, with their own `generate`, on our decode loop
audiocraft_standins, random_checkpoint    stand-ins for packages that inference never calls; random weights for tests
"""
