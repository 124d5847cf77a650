"""Diffusers' music pipelines, ACE-Step and Stable Audio 3, as an audio engine."""
