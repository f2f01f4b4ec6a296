"""What type checkers see: a program as users write it, checked and run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import lstm_ext

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
    ("LSTM(3, 8, num_layers=2", 'LSTM("3", 8, num_layers=2', "arg-type"),
    ("lstm.stream(batch=1)", "lstm.tape()", "assignment"),
    ('loss="gaussian"', 'loss="gauss"', "arg-type"),
    ("= regressor.predict(x)", "= regressor.predict(x, True)", "assignment"),
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
         "--allow-redefinition", "program.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=600,
        env=os.environ | ({} if "site-packages" in str(place) else {"MYPYPATH": str(place)}),
    )
    found = [line for line in done.stdout.splitlines() if ": error: " in line]
    if error is None:
        assert done.returncode == 0 and not found, done.stdout
    else:
        assert len(found) == 1 and f"[{error}]" in found[0], done.stdout
