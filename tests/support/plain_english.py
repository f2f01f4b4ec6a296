"""Words that the documentation does not use, and what it says instead.

Each entry is a regular expression, matched without regard to case, and the plain expression. Code and links
are left out before (`prose`).
"""

import ast
import io
import re
import tokenize

AVOIDED = {
    # what belongs to a call
    r"\bwords?\b": "keyword argument, name, term",
    r"\bsentences?\b": "error message",
    # who does the work
    r"\bteams?\b": "workers, ranks, processes",
    r"\bmanners?\b": "API, behavior",
    r"\blanes?\b": "engine, driver, job",
    # where things are
    r"\bhouses?\b": "module",
    r"\brooms?\b": "module, space",
    r"\bdoors?\b": "entry point, interface",
    r"\bfront door\b": "entry point",
    # what is done with data
    r"(?<!-)\bfed\b": "passed to, input of",
    r"\breadings\b": "instances, interpretations",
    r"\bfamil(?:y|ies)\b(?! \d)": "variants",
    r"\balone\b": "only, by itself",
    r"\blies? beyond\b": "after",
    r"\bat hand\b": "available",
    r"\bwhich see\b": "see",
    r"\band its like\b": "and similar functions",
    r"\ball of us\b": "all libraries",
    r"\bnobody\b": "no one, or the subject itself",
    r"\bfor ever\b": "without end",
    r"\bmay be asked of\b": "options of",
    # one spelling
    r"\blearnt\b": "learned",
    r"\bcolour\w*": "color",
    r"\bbehaviour\w*": "behavior",
    r"\bfavour\w*": "favor",
    r"\bneighbour\w*": "neighbor",
    r"\bcentre[sd]?\b": "center",
    r"\blicence[sd]?\b": "license",
    r"\b(?:optim|normal|initial|regular|standard|random|minim|maxim|general|recogn|organ|special|summar|util|"
    r"vector|parallel|serial|synchron|visual|memor|penal)is(?:e[sdr]?|ers|ing|ation\w*)\b": "-ize, -ization",
    r"\banalys(?:e[sd]|ing)\b": "analyze",
}


def prose(markdown):
    """Return a page without code, mathematics and the targets of links."""
    text = re.sub(r"^(`{3,}|:{3,}).*?^\1$", "", markdown, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^( {4}).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"``.*?``|`[^`]*`", "", text)
    text = re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)
    return re.sub(r"\]\([^)]*\)|<[^>]*>|https?://\S+", "]", text)


def commentary(source):
    """Return the docstrings and comments of Python code, one after the other."""
    texts = [
        ast.get_docstring(node) or ""
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            texts.append(token.string.lstrip("# "))
    return "\n".join(texts)


def found(text):
    """Return what `text` says otherwise, as lines of ``what it says: what to say``."""
    lines = []
    for pattern, instead in AVOIDED.items():
        for match in re.finditer(pattern, text, re.IGNORECASE):
            around = text[max(0, match.start() - 30) : match.end() + 30].replace("\n", " ")
            lines.append(f"{match[0]!r} in '...{around}...': {instead}")
    return lines
