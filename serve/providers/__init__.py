"""How models are called: `base` is the protocol of providers (`Provider`), `openai` calls OpenAI-compatible endpoints,
`embedded` the local model in `local`.
"""
