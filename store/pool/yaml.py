"""YAML with line numbers, for error messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agent.errors import BadDataFile

Location = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class YamlFile:
    """A parsed file: its ``data``, the line of each key and item, and the keys that appear twice in a mapping."""

    data: Any
    lines: dict[Location, int]
    repeated: list[tuple[Location, int]]

    def line(self, location: Location) -> int:
        """The line of a location, or of the innermost part of it that is in the file."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)


def read_yaml(path: Path) -> YamlFile:
    """Parse a file.

    Raises
    ------
    BadDataFile
        Where it cannot be read or is not YAML; names the line.
    """
    try:
        text = path.read_text()
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except OSError as error:
        raise BadDataFile(f"{path}: {error.strerror}", param=str(path)) from error
    except UnicodeDecodeError as error:
        raise BadDataFile(f"{path}: not a text file in UTF-8 ({error.reason})", param=str(path)) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise BadDataFile(f"{path}, line {line}: not YAML: {error.problem}", param=str(path)) from error
    except (yaml.YAMLError, ValueError) as error:  # a control character; a date that does not exist
        raise BadDataFile(f"{path}: not YAML: {error}", param=str(path)) from error
    lines: dict[Location, int] = {}
    repeated: list[tuple[Location, int]] = []
    for location, line in _walk(root, ()) if root is not None else ():
        if location in lines and isinstance(location[-1], str):
            repeated.append((location, line))
        lines.setdefault(location, line)
    return YamlFile(data, lines, repeated)


def _walk(node: yaml.Node, at: Location) -> Iterator[tuple[Location, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*at, str(key.value))
            yield here, key.start_mark.line + 1
            yield from _walk(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*at, index), item.start_mark.line + 1
            yield from _walk(item, (*at, index))
