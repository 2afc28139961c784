"""The local model, SmolLM2-135M-Instruct, so that answers need no key: `weights` unpacks it, `engine` generates text,
`model` is its Serve deployment (`LocalModel`).
"""
