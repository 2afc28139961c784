"""The documents name files that exist, and the tree in docs/architecture.md is what the docstrings say."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
ARCHITECTURE = REPOSITORY / "docs" / "architecture.md"
ROOMS = ("agent", "store", "jobs", "serve")


def summary(path: Path) -> str:
    """The first sentence of a module's docstring on one line; of a folder's, what stands before its first colon."""
    text = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].split())
    sentence = re.split(r"(?<=\.)\s", text)[0]
    return sentence.partition(": ")[0] if path.stem == "__init__" else sentence


def tree() -> str:
    """A line per folder and per module of the four rooms."""
    lines = []
    for room in ROOMS:
        for package in sorted((REPOSITORY / room).rglob("__init__.py"), key=lambda p: p.parent.parts):
            folder = package.parent.relative_to(REPOSITORY)
            if "migrations" in folder.parts:
                continue
            lines.append(f"{folder}/  {summary(package)}")
            modules = sorted(m for m in package.parent.glob("*.py") if m.name != "__init__.py")
            lines += [f"    {m.name:<18} {summary(m)}" for m in modules]
    return "\n".join(lines)


def test_the_tree_in_the_documents_is_the_tree() -> None:
    assert tree() in ARCHITECTURE.read_text(), f"put this tree into {ARCHITECTURE.name}:\n\n{tree()}"


@pytest.mark.parametrize("document", ["README.md", "docs/architecture.md"])
def test_every_path_that_a_document_names_exists(document: str) -> None:
    named = re.findall(r"`((?:agent|store|jobs|serve|tests|docs)/[\w./-]*)`", (REPOSITORY / document).read_text())
    assert named
    assert [path for path in named if not (REPOSITORY / path).exists()] == []


if __name__ == "__main__":
    print(tree())
