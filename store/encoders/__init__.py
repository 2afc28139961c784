"""The encoders' weights: `load.load_encoder` opens the one that the settings name.

It is the bundled one (``onnx``) or a sentence-transformers model (``sentence``); `cache.CachedEncoder` keeps embeddings on
disk. Others use these two, `onnx.BUNDLED` (the bundled encoder's name) and `onnx.prepare` (exports it at installation).
"""
