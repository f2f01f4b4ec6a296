"""What type checkers see: a program as users write it, checked and run."""

import inspect
import os
import pydoc
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pytest

import lstm_ext
import lstm_ext.distributed
import lstm_ext.training
from lstm_ext import LSTM, Model, _pooling, losses

PROGRAM = Path(__file__).parents[1] / "support" / "typed_program.py"


def run(*arguments, **words):
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=600, **words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_program_as_users_write_it_runs(tmp_path):
    pytest.importorskip("sklearn")
    assert "12" in run("-W", "ignore", str(PROGRAM), cwd=tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size > 0


@pytest.mark.parametrize(("old", "new", "error"), [
    ("", "", None),
    ("LSTM(3, 8, num_layers=2", 'LSTM("3", 8, num_layers=2', "call-overload"),
    ("lstm.stream(batch=1)", "lstm.tape()", "assignment"),
    ('loss="gaussian"', 'loss="gauss"', "arg-type"),
    ("= regressor.predict(x)", "= regressor.predict(x, True)", "assignment"),
    ("lstm: LSTM[np.float32]", "lstm: LSTM[np.float64]", "assignment"),
    ('dtype="float64"', 'dtype="float32"', "assignment"),
    ("loss=Huber(1.0)", 'loss="hubert"', "arg-type"),
    ("    assert isinstance(again, Model)\n", "", "return-value"),
    ('print(record["epoch"]', 'print(record["epochs"]', "typeddict-item"),
])
def test_mypy_finds_what_is_wrong_in_it_and_nothing_else(old, new, error, tmp_path):
    pytest.importorskip("mypy")
    pytest.importorskip("sklearn")
    text = PROGRAM.read_text()
    assert old in text
    (tmp_path / "program.py").write_text(text.replace(old, new, 1))
    place = Path(lstm_ext.__file__).parents[1]  # of an editable install, which mypy does not follow
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--ignore-missing-imports", "--follow-imports=silent",
         "--allow-redefinition", "--cache-dir", str(tmp_path.parent / "mypy"), "program.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=600,
        env=os.environ | ({} if "site-packages" in str(place) else {"MYPYPATH": str(place)}),
    )
    found = [line for line in done.stdout.splitlines() if ": error: " in line]
    if error is None:
        assert done.returncode == 0 and not found, done.stdout
    else:
        assert found and all(f"[{error}]" in line for line in found), done.stdout


def test_overloads_have_the_parameters_of_what_they_overload():
    """mypy compares them with the implementation, but for what they lack."""
    for function in (LSTM.__init__, LSTM.forward):
        whole = inspect.signature(function).parameters
        overloads = typing.get_overloads(function)
        assert overloads
        for overload in overloads:
            own = inspect.signature(overload).parameters
            assert list(own) == list(whole)
            for name, parameter in own.items():
                if name not in ("self", "dtype", "return_gates"):
                    assert parameter == whole[name]


def test_names_in_types_are_those_that_are_known():
    assert typing.get_args(losses.LossName) == tuple(losses.LOSSES)
    assert typing.get_args(_pooling.Pooling) == _pooling.POOLINGS


def test_a_class_takes_its_dtype_as_a_parameter():
    assert LSTM[np.float32] is LSTM and isinstance(Model[np.float64](LSTM(2, 3), 1), Model)


def test_dir_has_the_public_names():
    for module in (lstm_ext, lstm_ext.training, lstm_ext.distributed):
        names = set(dir(module))
        assert set(module.__all__) <= names
        assert not [name for name in names if name[0] == "_" and name[:2] != "__"]


def test_help_fits():
    """A bound that nothing added may cross, and no page on typing.Generic."""
    text = pydoc.plain(pydoc.render_doc(LSTM))
    assert len(text.splitlines()) < 350 and "typing.Generic" not in text
