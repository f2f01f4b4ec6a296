"""Imports point one way, and a name that begins with an underscore stays in its package."""

import ast
import graphlib
import pickle
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs_source

ROOT = Path(__file__).parents[2]
# From the bottom: a module imports from its own layer and from those above it in this list, never from one
# below. Names that end in a point stand for a package and all that is in it.
LAYERS = (
    ("_provided", "_optional", "_checks", "_typing", "_files", "_data", "_blas", "_kernels", "_optim"),
    ("_fixed", "_arrays", "_safetensors", "_threads", "_table"),
    ("_node", "_driver", "_general", "_stack"),
    ("_lstm", "cython_lstm"),
    ("_options", "initializers", "_missing", "_pooling"),
    ("_passes", "_jacobian"),
    ("lstm", "node"),
    ("losses", "optim", "schedules", "datasets."),
    ("callbacks",),
    ("training.",),
    ("distributed.",),
    ("model",),
    ("_fitted", "attribution"),
    ("plot",),
    ("sklearn.",),
    ("sktime",),
    ("io.",),
    ("_commands", "_demo", "_launch"),
    ("_demo_catchment", "_demo_elnino", "_demo_spring"),
    ("__main__",),
)
# What is imported only once it is asked for, by the name of a module as text. The package's own __init__
# finds all public names and the module that reads and writes files for Model.
BY_NAME = {
    "lstm_ext": "public names; lstm_ext.io.native for Model.save and Model.load",
    "lstm_ext.io": "names of its own modules",
    "lstm_ext.io._packing": "the estimators, where a file holds one",
    "lstm_ext._demo": "the demo that is run, by its name",
    "lstm_ext._optional": "optional libraries",
}
# Adapters of estimators are a part of them, in a module of its own for the sake of what it imports.
PART_OF = {"lstm_ext.sktime": "lstm_ext.sklearn"}


def modules():
    """Return the paths of all modules by name, and those of the compiled ones."""
    paths = {}
    for path in (ROOT / "lstm_ext").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        paths[name.removesuffix(".__init__")] = path
    for path in (ROOT / "src").glob("*.pyx"):
        paths[f"lstm_ext.{path.stem}"] = path
    return paths


MODULES = modules()


class Imports(ast.NodeVisitor):
    """What a module imports at any depth, but for type checkers: (module, name or None, line)."""

    def __init__(self, name, path):
        self.name, self.found = name, []
        self.visit(ast.parse(path.read_text(encoding="utf-8")))

    def visit_If(self, node):
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for other in node.orelse:
                self.visit(other)
        else:
            self.generic_visit(node)

    def visit_Import(self, node):
        self.found += [(alias.name, None, node.lineno) for alias in node.names]

    def visit_ImportFrom(self, node):
        assert not node.level, f"{self.name}:{node.lineno}: a relative import"
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            if whole in MODULES:
                self.found.append((whole, None, node.lineno))
            else:
                self.found.append((node.module, alias.name, node.lineno))


def compiled_imports(path):
    """Return what a .pyx imports or cimports of the package."""
    pattern = r"^\s*from (lstm_ext[\w.]*) c?import"
    text = path.read_text(encoding="utf-8")
    return [
        (match[1], None, text[: match.start()].count("\n") + 1)
        for match in re.finditer(pattern, text, re.MULTILINE)
    ]


def imports(name):
    path = MODULES[name]
    found = compiled_imports(path) if path.suffix == ".pyx" else Imports(name, path).found
    return [each for each in found if each[0].partition(".")[0] == "lstm_ext"]


def layer_of(module):
    short = module.removeprefix("lstm_ext.")
    for number, names in enumerate(LAYERS):
        if short in names or any(f"{short}.".startswith(name) for name in names if name.endswith(".")):
            return number
    raise AssertionError(f"{module} has no layer in tests/platform/test_layers.py")


def package_of(module):
    return module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]


def test_every_module_has_one_layer():
    names = [name for layer in LAYERS for name in layer]
    assert len(names) == len(set(names))
    for module in MODULES:
        if module != "lstm_ext":
            layer_of(module)
    for name in names:
        assert f"lstm_ext.{name.removesuffix('.')}" in MODULES, f"{name} is no module"


@pytest.mark.parametrize("module", MODULES)
def test_arrows_point_one_way(module):
    for imported, name, line in imports(module):
        if module == "lstm_ext":
            assert layer_of(imported) == 0, f"line {line}: import lstm_ext loads {imported}"
        elif imported != "lstm_ext":
            assert layer_of(imported) <= layer_of(module), f"{module}:{line} imports {imported} from above"
        else:
            assert name in ("__version__", "__path__", "get_num_threads"), f"{module}:{line} imports {name}"


def test_there_is_no_circle():
    graph = {module: set() for module in MODULES}
    for module in MODULES:
        # `import a.b` runs a's __init__, too: a module of a package depends on none of what that imports.
        graph[module] |= {imported for imported, *_ in imports(module)} - {module, "lstm_ext"}
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", MODULES)
def test_private_names_stay_in_their_package(module):
    inside = PART_OF.get(module, module)
    for imported, name, line in imports(module):
        place = f"{module}:{line} imports {imported}{'' if name is None else f'.{name}'}"
        for depth, part in enumerate(imported.split(".")):
            if part.startswith("_"):
                owner = ".".join(imported.split(".")[:depth])
                assert f"{inside}.".startswith(f"{owner}."), place
        if name is not None and name.startswith("_") and not name.startswith("__"):
            assert imported == module, place


def attributes(tree):
    """Return (name, line) of attributes with an underscore of anything but self and cls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                yield node.attr, node.lineno


@pytest.mark.parametrize(
    "module", [m for m in MODULES if m.startswith(("lstm_ext.training", "lstm_ext.distributed"))]
)
def test_a_training_uses_public_attributes_alone(module):
    """The model, the optimizer and the group are protocols: whatever has their public methods will do."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    allowed = {
        "lstm_ext.training._stored": {"_mmap", "_other"},  # a memory map's own; a copy of itself
        "lstm_ext.training._interrupt": {"_open"},
    }
    names = {name for name, _ in attributes(tree)} - allowed.get(module, set())
    assert not names, f"{module} uses {names}"


@pytest.mark.parametrize("module", MODULES)
def test_modules_named_by_text_are_known(module):
    path = MODULES[module]
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            called = getattr(called, "attr", getattr(called, "id", None))
            if called in ("import_module", "_import_module", "__import__"):
                assert module in BY_NAME, f"{module}:{node.lineno}"


@pytest.mark.parametrize("name", [
    "training.fit", "training.fit_lbfgs", "distributed.DataParallel", "distributed.RankError", "model.Model",
    "callbacks.EarlyStopping", "callbacks.ProgressBar", "lstm.LSTM", "optim.Adam", "schedules.Cosine",
])
def test_pickles_of_earlier_versions_find_their_classes(name):
    module, _, attribute = name.rpartition(".")
    found = pickle.loads(f"clstm_ext.{module}\n{attribute}\n.".encode())
    assert found.__name__ == attribute
