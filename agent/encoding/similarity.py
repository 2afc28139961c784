"""Similarity of prompts by meaning, wording and form: a weighted mean of Laplacian kernels, in (0, 1].

A prompt is three blocks: the encoder's embedding, its hashed words (tf-idf, then the leading singular directions), and
the standardised plain features. Each block is divided by the median distance of training prompts in it; the similarity of
two prompts is the weighted mean over blocks of ``exp(-distance)``. On every data set it predicts scores better than any
block alone (docs/log.md). Words and features weigh as far as there are scores: without any, the embedding alone counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.encoding import features as text

Matrix = NDArray[np.float32]

DIRECTIONS = 128
"""Most singular directions kept of the words."""

SEARCHED = 64
"""Most principal directions in which neighbours are searched."""

HALF_WEIGHT = 500.0
"""Scored prompts at which words and plain features each weigh half of what the embedding does."""

_SAMPLE = 600
_WORDS_SAMPLE = 20_000
_CLIP = 4.0
_CHUNK = 512


@dataclass(frozen=True, slots=True)
class Representation:
    """What is fitted to represent prompts; `transform` gives their blocks, side by side.

    Parameters
    ----------
    idf
        (b,) inverse document frequency of each word bucket.
    directions
        (b, s) singular directions of the tf-idf weighted words.
    mean, std
        (p,) of the plain features.
    scale
        (3,) median distance of training prompts in each block.
    share
        (3,) weight of each block in the similarity, sums to 1.
    search
        (w, g) leading principal directions of the blocks, w = d + s + p.
    """

    idf: Matrix
    directions: Matrix
    mean: Matrix
    std: Matrix
    scale: Matrix
    share: Matrix
    search: Matrix

    def transform(self, embeddings: Matrix, features: Matrix) -> Matrix:
        """(n, w) blocks in units of their median distance, from (n, d) embeddings and (n, p + b) features."""
        edges = self.edges
        out = np.empty((len(features), edges[-1]), np.float32)
        for start in range(0, len(features), _CHUNK):
            rows = slice(start, start + _CHUNK)
            plain, words = features[rows, : len(self.mean)], features[rows, len(self.mean) :]
            lexical = unit(words * self.idf) @ self.directions
            form = np.clip((plain - self.mean) / self.std, -_CLIP, _CLIP)
            for block, scale, first, end in zip(
                (embeddings[rows], unit(lexical), form), self.scale, edges, edges[1:], strict=False
            ):
                np.divide(block, scale, out=out[rows, first:end])
        return out

    @property
    def edges(self) -> tuple[int, int, int, int]:
        """Columns of a transformed row at which each block starts, and where the last one ends."""
        form = len(self.search) - len(self.mean)
        return (0, form - self.directions.shape[1], form, len(self.search))

    def tensors(self) -> dict[str, Matrix]:
        """As a snapshot stores it."""
        return {f"representation_{f.name}": getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> Representation:
        """Read from a snapshot's tensors."""
        return cls(**{f.name: tensors[f"representation_{f.name}"] for f in fields(cls)})


def fit_representation(embeddings: Matrix, features: Matrix, n_scored: int) -> Representation:
    """Fit to training prompts: (n, d) embeddings and (n, p + b) features, plain ones first; ``n_scored`` have a score."""
    n = len(embeddings)
    plain = features[:, : len(text.PLAIN)]
    words = features[:, len(text.PLAIN) :]
    document_frequency = (words > 0).sum(axis=0)
    idf = (np.log((1 + n) / (1 + document_frequency)) + 1.0).astype(np.float32)
    directions = leading_directions(unit(words[:: max(1, n // _WORDS_SAMPLE)] * idf), DIRECTIONS)
    mean, std = plain.mean(axis=0), np.maximum(plain.std(axis=0), 0.02).astype(np.float32)
    width = embeddings.shape[1] + directions.shape[1] + plain.shape[1]
    share = np.array([1.0, *[n_scored / (n_scored + HALF_WEIGHT)] * 2], np.float32)
    share /= share.sum()
    raw = Representation(idf, directions, mean, std, np.ones(3, np.float32), share, np.zeros((width, 1), np.float32))
    sample = slice(None, None, max(1, n // _SAMPLE))
    x = raw.transform(embeddings[sample], features[sample])
    scale = np.array([_median_distance(x[:, a:b]) for a, b in zip(raw.edges, raw.edges[1:])], np.float32)
    weight = np.repeat(share / share.max(), np.diff(raw.edges))  # (w,) a block counts in the search by its share
    x *= weight / np.repeat(scale, np.diff(raw.edges))
    return replace(raw, scale=scale, search=weight[:, None] * leading_directions(x - x.mean(axis=0), SEARCHED))


def leading_directions(x: Matrix, count: int) -> Matrix:
    """(b, s) leading right singular vectors of ``x`` (n, b), s = min(count, n - 1, b), by the smaller Gram matrix."""
    n, width = x.shape
    count = max(min(count, n - 1, width), min(width, 1))
    if n < width:
        values, vectors = eigh((x @ x.T).astype(np.float64))
        return np.asarray(x.T @ (vectors[:, :count] / np.sqrt(np.maximum(values[:count], 1e-9))), np.float32)
    return np.ascontiguousarray(eigh((x.T @ x).astype(np.float64))[1][:, :count], np.float32)


def eigh(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenvalues, largest first, and eigenvectors of a symmetric matrix; several times as fast in torch as in numpy."""
    import torch  # serving imports this module, and needs no torch

    values, vectors = torch.linalg.eigh(torch.from_numpy(np.ascontiguousarray(matrix)))
    return values.numpy()[::-1].copy(), vectors.numpy()[:, ::-1].copy()


def kernel(left: Matrix, right: Matrix, representation: Representation, right_squares: Matrix | None = None) -> Matrix:
    """(n, l) similarity of the rows of ``left`` (n, w) and ``right`` (l, w); ``right_squares`` from `block_squares`."""
    edges = representation.edges
    squares = block_squares(right, edges) if right_squares is None else right_squares
    total = np.empty((len(left), len(right)), np.float32)
    for first in range(0, len(left), _CHUNK):
        rows = left[first : first + _CHUNK]
        distance = np.empty((len(edges) - 1, len(rows), len(right)), np.float32)  # (3, chunk, l)
        for b, (start, end) in enumerate(zip(edges, edges[1:])):
            np.matmul(rows[:, start:end], right[:, start:end].T, out=distance[b])
        distance *= -2.0
        distance += squares[:, None, :]
        distance += block_squares(rows, edges)[:, :, None]
        np.maximum(distance, 0.0, out=distance)
        np.sqrt(distance, out=distance)
        np.negative(distance, out=distance)
        np.exp(distance, out=distance)
        mean = representation.share @ distance.reshape(len(distance), -1)
        total[first : first + _CHUNK] = mean.reshape(distance.shape[1:])
    return total


def block_squares(x: Matrix, edges: tuple[int, ...]) -> Matrix:
    """(3, n) squared length of each row of ``x`` (n, w) in each block."""
    return np.add.reduceat(x * x, edges[:-1], axis=1).T.astype(np.float32)


def similarity(x: Matrix, others: Matrix, representation: Representation) -> Matrix:
    """(n, k) similarity of each row of ``x`` (n, w) to its own ``others`` (n, k, w)."""
    step = others - x[:, None, :]
    edges = representation.edges
    distance = np.empty((*step.shape[:2], len(edges) - 1), np.float32)
    for b, (start, end) in enumerate(zip(edges, edges[1:])):
        block = step[..., start:end]
        np.einsum("nkw,nkw->nk", block, block, out=distance[..., b])
    return np.exp(-np.sqrt(distance)) @ representation.share


def unit(x: Matrix) -> Matrix:
    """Rows scaled to length one; rows of zeros stay."""
    out: Matrix = x / np.maximum(np.sqrt(np.einsum("nd,nd->n", x, x)), 1e-9)[:, None]
    return out


def _median_distance(x: Matrix) -> float:
    wide = x.astype(np.float64)
    square = (wide * wide).sum(axis=1)
    pairs = np.maximum(square[:, None] + square[None, :] - 2.0 * wide @ wide.T, 0.0)
    return float(np.sqrt(max(np.median(pairs), 1e-6)))
