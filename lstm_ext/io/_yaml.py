"""The part of YAML that programs write: mappings and lists by indentation, plain and quoted values.

No anchors, tags, merges, block texts or documents, so that a text makes no more than it holds; each of them
is refused. A library is not needed, and nothing that a file names is made.
"""

from __future__ import annotations

import json
import re

MAX_LINES = 2**17
MAX_DEPTH = 32
_KEY = re.compile(
    r"""("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s#&*!|>%@`{}\[\],"'?-][^#]*?|-[^\s#][^#]*?)"""
    r"""\s*:(?:\s+(.*))?"""
)
_NUMBER = re.compile(r"[-+]?(\d[\d_]*)?(\.\d*)?([eE][-+]?\d+)?")
_WORDS = {
    "": None, "~": None, "null": None, "true": True, "false": False, ".nan": float("nan"),
    ".inf": float("inf"), "-.inf": float("-inf"),
}


def parse_yaml(text, what):
    """Return the mapping or list of a text; a ValueError that says the line for all that is not read here."""
    lines = []
    for number, line in enumerate(text.split("\n"), 1):
        if number > MAX_LINES:
            raise ValueError(f"{what} has more than {MAX_LINES} lines")
        stripped = line.strip()
        if stripped and not stripped.startswith("#") and stripped != "---":
            indent = len(line) - len(line.lstrip(" "))
            if line[indent] == "\t":
                raise ValueError(f"{what}, line {number}: a tab at its begin")
            lines.append((number, indent, stripped))
    reader = _Reader(lines, what)
    value = reader.block(-1, 0) if lines else None
    if reader.position < len(lines):
        reader.refuse("is at another depth than the lines before it")
    return value


class _Reader:
    def __init__(self, lines, what):
        self.lines, self.what, self.position = lines, what, 0

    def refuse(self, why):
        number = self.lines[min(self.position, len(self.lines) - 1)][0]
        raise ValueError(f"{self.what}, line {number} {why}")

    def block(self, above, depth):
        """Return what stands deeper than `above`, from here on."""
        if depth > MAX_DEPTH:
            self.refuse(f"is more than {MAX_DEPTH} deep")
        if self.position >= len(self.lines) or self.lines[self.position][1] <= above:
            return None
        indent, text = self.lines[self.position][1:]
        if text == "-" or text.startswith("- "):
            return self.list(indent, depth)
        if _KEY.fullmatch(text):
            return self.mapping(indent, depth)
        parts = []  # a plain value that goes over several lines
        while self.position < len(self.lines) and self.lines[self.position][1] > above:
            parts.append(self.lines[self.position][2])
            self.position += 1
        return self.scalar(" ".join(parts))

    def list(self, indent, depth):
        values = []
        while self.position < len(self.lines):
            number, own, text = self.lines[self.position]
            if own != indent or not (text == "-" or text.startswith("- ")):
                break
            rest = text[1:].lstrip()
            if not rest:
                self.position += 1
                values.append(self.block(indent, depth + 1))
            elif _KEY.fullmatch(rest) or rest.startswith("- "):  # a mapping, or a list, that begins here
                self.lines[self.position] = number, indent + len(text) - len(rest), rest
                values.append(self.block(indent, depth + 1))
            else:
                self.position += 1
                values.append(self.scalar(rest))
        return values

    def mapping(self, indent, depth):
        found = {}
        while self.position < len(self.lines):
            _, own, text = self.lines[self.position]
            match = _KEY.fullmatch(text)
            if own != indent or match is None:
                break
            key = self.scalar(match[1])
            key = match[1] if not isinstance(key, str) else key
            if key in found:
                self.refuse("has a key for the second time")
            self.position += 1
            rest = (match[2] or "").strip()
            if rest and not rest.startswith("#"):
                value = self.scalar(rest)
            else:
                # A list may stand at the depth of its key.
                listed = self.position < len(self.lines) and self.lines[self.position][1] == indent
                listed = listed and self.lines[self.position][2][:2] in ("-", "- ")
                value = self.block(indent - 1 if listed else indent, depth + 1)
            found[key] = value
        return found

    def scalar(self, text):
        """Return a value of one line."""
        if text[0] == '"':
            try:
                end = json.JSONDecoder().raw_decode(text)
            except ValueError:
                self.refuse("has a quoted text that is not read here")
            value, rest = end[0], text[end[1] :]
        elif text[0] == "'":
            match = re.match(r"'((?:[^']|'')*)'", text)
            if match is None:
                self.refuse("has a quoted text without an end")
            value, rest = match[1].replace("''", "'"), text[match.end() :]
        elif text[0] in "[{":
            value, rest = self.flow(text)
        else:
            text = re.split(r"\s#", text, maxsplit=1)[0].rstrip()
            if text[:1] in "&*!|>%@`" and text:
                self.refuse(f"begins a value with {text[0]}, which is not read here")
            value, rest = _plain(text), ""
        if rest.strip() and not rest.strip().startswith("#"):
            self.refuse("has more after a value")
        return value

    def flow(self, text):
        """Return an empty mapping, or a list of plain values, and what comes after."""
        if text.startswith("{}"):
            return {}, text[2:]
        match = re.match(r"\[([^\[\]{}\"'&*!]*)\]", text)
        if match is None:
            self.refuse("has a mapping or list within brackets that is not read here")
        values = [_plain(part.strip()) for part in match[1].split(",")] if match[1].strip() else []
        return values, text[match.end() :]


def _plain(text):
    """Return a scalar of YAML, a number or the text itself."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _NUMBER.fullmatch(text) and any(sign.isdigit() for sign in text) and len(text) < 400:
        number = text.replace("_", "")
        return int(number) if re.fullmatch(r"[-+]?\d+", number) else float(number)
    return text
