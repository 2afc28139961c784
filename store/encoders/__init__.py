"""The encoders' weights: `backends.load_encoder` opens the encoder that the settings name, the bundled one or a
sentence-transformers model; `cache.CachedEncoder` keeps embeddings on disk. Others use these two, `backends.BUNDLED` (the
bundled encoder's name) and `backends.prepare` (exports it at installation).
"""
