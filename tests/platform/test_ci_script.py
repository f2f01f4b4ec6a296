"""The script that checks a change: what fails in one lane reaches the other and the exit code."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.needs_source,
    pytest.mark.skipif(not (CHECKOUT / ".ci/run").exists(), reason="the script is not here"),
    pytest.mark.skipif(shutil.which("flock") is None, reason="this system has no flock"),
]


@pytest.fixture
def run(tmp_path):
    """Return a function that runs the script with jobs of one line each: (exit code, output)."""
    shutil.copytree(CHECKOUT / ".ci", tmp_path / ".ci")
    (tmp_path / ".ci/machine.sh").write_text("python=python3 compiler=cc\n")
    names = sorted(path.stem for path in (tmp_path / ".ci/jobs").glob("*.sh"))
    (tmp_path / "tmp").mkdir()

    def run(jobs, *arguments):
        for name in names:
            head = 'source "$(dirname "$0")/../common.sh"\n'
            body = jobs.get(name, f"echo {name} ran")
            (tmp_path / f".ci/jobs/{name}.sh").write_text(head + body + "\n")
        done = subprocess.run(
            ["bash", ".ci/run", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60,
            check=False, env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        )
        assert list((tmp_path / "tmp").iterdir()) == []  # nothing is left behind
        return done.returncode, done.stdout + done.stderr

    run.names = [name for name in names if name != "reproducible"]  # that one runs before a release
    return run


def test_every_job_runs_once(run):
    code, output = run({"kernels": "needs install; echo kernels ran", "docs": "needs wheel; echo docs ran"})
    assert code == 0, output
    for name in run.names:
        assert output.count(f"{name} ran\n") == 1, output
        assert f"{name:12} passed" in output


def test_a_failure_reaches_the_other_lane_and_the_exit_code(run):
    code, output = run({
        "wheel": "false; echo not reached", "install": "needs wheel", "kernels": "needs install",
    })
    assert code == 1
    assert "not reached" not in output
    for name in ("wheel", "install", "kernels"):
        assert f"{name:12} failed" in output
    assert "not run, because install failed" in output
    assert "stubs        passed" in output  # what does not need it is still run


def test_some_jobs_and_what_they_need(run):
    code, output = run({"wheel": "needs tools; echo wheel ran"}, "wheel")
    assert code == 0, output
    assert "tools ran" in output
    assert "wheel ran" in output
    assert "linters" not in output


def test_a_job_that_ends_its_shell_has_failed(run):
    code, output = run({"suite": "kill -9 $$"})
    assert code == 1
    assert "suite        failed" in output


def test_unknown_job(run):
    code, output = run({}, "whel")
    assert code == 2
    assert "whel" in output
