"""Encoders by sentence-transformers, by name or folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.encoding.encoder import Tokens
from agent.errors import InvalidInput
from store.encoders.onnx import BUNDLED


class SentenceTransformerBackend:
    """A sentence-transformers model, on the CPU."""

    def __init__(self, name: str, threads: int) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        try:
            self._model = SentenceTransformer(name, device="cpu")
        except (OSError, ValueError) as error:
            raise InvalidInput(
                f"encoder {name!r} could not be loaded ({error}); give {BUNDLED!r}, a sentence-transformers folder, "
                "or a model name that this machine can fetch",
                param="THALWEG_ENCODER",
            ) from error
        self.window = int(self._model.max_seq_length or 256) - 2
        self.dimension = int(self._model.get_embedding_dimension() or 0)
        digest = hashlib.sha256("|".join(f"{k}{tuple(v.shape)}{v.sum():.6e}" for k, v in self._weights()).encode())
        self.fingerprint = f"{Path(name).name}/{digest.hexdigest()[:12]}"

    def _weights(self) -> list[tuple[str, Any]]:
        return sorted(self._model.state_dict().items())

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Token ids of each text, not truncated."""
        encode = self._model.tokenizer.encode
        return [encode(t, add_special_tokens=False, truncation=False, verbose=False) for t in texts]

    def embed(self, windows: Sequence[Tokens]) -> NDArray[np.float32]:
        """(windows, d) vectors of the windows' texts."""
        texts = [self._model.tokenizer.decode(w) for w in windows]
        return np.asarray(self._model.encode(texts, show_progress_bar=False), np.float32)
