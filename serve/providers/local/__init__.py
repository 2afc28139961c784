"""The embedded local model: SmolLM2-135M-Instruct in a process of its own, so that no key is needed for an answer."""
