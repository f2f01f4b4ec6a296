"""What the package does to the process it is imported into, and how it bears fork and spawn."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


def run_python(program, *, cwd=None, **environment):
    """Run `program` in a fresh process; the directory `cwd`, if given, is first on its path."""
    safe = ["-P"] if cwd is None else []
    return subprocess.run(
        [sys.executable, *safe, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=90,
        cwd=cwd,
        env=os.environ | environment,
        check=False,
    )


def check_python(program, **options):
    done = run_python(program, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


WORK = """
    import numpy as np, lstm_ext
    def work(seed=0):
        # Enough sequences and multiply-adds that more than one thread has something to do.
        lstm = lstm_ext.LSTM(16, 64, 2, rng=seed)
        x = np.random.default_rng(seed).standard_normal((200, 20, 16)).astype("float32")
        tape = lstm.tape()
        y, state = lstm.forward(x, tape=tape)
        lstm.backward(tape, y, state)
        return float(np.abs(lstm.gradient).sum(dtype=float))
"""


def test_subnormals_survive():
    """Neither import nor work, in any thread, flushes subnormal numbers to zero."""
    out = check_python(
        WORK
        + """
    import threading
    def alive():
        tiny = np.array([5e-324, 1e-310])
        small = np.array([1e-45, 1e-40], "float32")
        values = [float("5e-324") * float("1.0"), float("1e-300") * float("1e-20")]
        arrays = tiny * 1.0, small * small.dtype.type(1)
        return bool(all(values) and all((a != 0).all() for a in arrays))
    assert alive()
    for threads in (1, 2, 4):
        lstm_ext.set_num_threads(threads)
        work()
        assert alive()
    seen = []
    def thread():
        work()
        seen.append(alive())
    for _ in range(2):
        t = threading.Thread(target=thread); t.start(); t.join()
    assert seen == [True, True]
    print("alive")
    """
    )
    assert out == "alive"


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("threads", [1, 2])
def test_work_in_the_parent_then_in_a_child(method, threads, tmp_path):
    """After threads have run in the parent, children compute the same, and nothing hangs."""
    import multiprocessing

    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    script = tmp_path / "children.py"
    script.write_text(
        textwrap.dedent(WORK)
        + textwrap.dedent(
            f"""
            import multiprocessing
            def child(seed):
                lstm_ext.set_num_threads({threads})
                return work(seed)
            if __name__ == "__main__":
                lstm_ext.set_num_threads({threads})
                expected = [work(seed) for seed in range(3)]
                context = multiprocessing.get_context("{method}")
                with context.Pool(2) as pool:
                    assert pool.map_async(child, range(3)).get(60) == expected
                assert work() == expected[0]
                print("same")
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "same"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_bare_fork_does_not_hang():
    """A child that keeps the parent's number of threads, without any call in between."""
    out = check_python(
        WORK
        + """
    import os, warnings
    warnings.simplefilter("ignore")
    lstm_ext.set_num_threads(2)
    expected = work()
    child = os.fork()
    if child == 0:
        os._exit(0 if work() == expected else 3)
    import time
    for _ in range(300):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.1)
    else:
        os.kill(child, 9)
        raise SystemExit("the child hangs")
    assert os.waitstatus_to_exitcode(status) == 0, status
    assert work() == expected
    print("same")
    """
    )
    assert out == "same"


def test_subinterpreters_are_refused():
    """A second interpreter gets an ImportError, from the package and from each extension by itself."""
    out = check_python(
        WORK
        + """
    import importlib, os, pathlib, sys, textwrap
    try:
        interpreters = importlib.import_module("_interpreters")  # Python 3.13
    except ImportError:
        interpreters = importlib.import_module("_xxsubinterpreters")
    expected = work()
    package = pathlib.Path(lstm_ext.__file__).parent
    extensions = [f for f in package.iterdir() if f.suffix in (".so", ".pyd")]
    assert extensions
    program = '''
    import importlib.util, os, sys, warnings
    warnings.simplefilter("ignore")
    sys.path.insert(0, {root!r})
    def refused(load):
        try:
            load()
        except ImportError:
            return True
        return False
    def load(path):
        name = "lstm_ext." + os.path.basename(path).partition(".")[0]
        spec = importlib.util.spec_from_file_location(name, path)
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    answers = [refused(lambda: load(path)) for path in {paths!r}]
    answers.append(refused(lambda: importlib.import_module("lstm_ext")))
    os.write({pipe}, bytes(answers))
    '''
    read, write = os.pipe()
    text = program.format(root=str(package.parent), paths=[str(f) for f in extensions], pipe=write)
    other = interpreters.create()
    interpreters.run_string(other, textwrap.dedent(text))
    answers = os.read(read, 99)
    assert answers == bytes([True] * (len(extensions) + 1)), answers
    assert work() == expected  # in threads
    print("refused", len(extensions), flush=True)
    os._exit(0)  # Python 3.11 may crash when it ends another interpreter, whatever ran in it
    """
    )
    assert out.startswith("refused")


def test_import_is_light():
    """No optional package and no test package is imported; nothing is printed."""
    out = check_python(
        """
    import sys
    import numpy, scipy.linalg.cython_blas
    before = set(sys.modules)
    import lstm_ext
    new = {name.partition(".")[0] for name in set(sys.modules) - before}
    heavy = {"torch", "tensorflow", "jax", "sklearn", "matplotlib", "tqdm", "pandas", "onnx",
             "onnxruntime", "hypothesis", "pytest", "multiprocessing", "h5py"}
    assert not new & heavy, new & heavy
    scipy_parts = {n for n in set(sys.modules) - before if n.startswith("scipy.")}
    assert not scipy_parts & {"scipy.stats", "scipy.optimize", "scipy.sparse", "scipy.signal"}
    """
    )
    assert out == ""


def test_import_changes_no_environment():
    """Neither environment variables nor warning filters, signal handlers or NumPy's error state.

    What the packages that it imports change by themselves is not ours: they come first here.
    """
    check_python(
        """
    import os, signal, warnings
    import numpy as np, scipy.linalg, scipy.special
    try:
        import threadpoolctl
    except ImportError:
        pass
    def state():
        handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGSEGV)]
        return dict(os.environ), list(warnings.filters), np.geterr(), handlers
    before = state()
    import lstm_ext
    lstm_ext.LSTM(3, 4)(np.zeros((2, 3, 3)))
    assert state() == before
    """
    )


def source_tree(tmp_path):
    """Copy the checkout's Python half as git has it: nothing built."""
    shutil.copytree(
        CHECKOUT / "lstm_ext",
        tmp_path / "lstm_ext",
        ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"),
    )
    return tmp_path


@pytest.mark.skipif(not (CHECKOUT / "lstm_ext").is_dir(), reason="the tests stand alone here")
@pytest.mark.parametrize("program", ["import lstm_ext", "from lstm_ext import LSTM"])
def test_import_from_an_unbuilt_checkout(program, tmp_path):
    """It works (another copy is found), or one sentence names the command to run."""
    done = run_python(program, cwd=source_tree(tmp_path), PYTHONPATH="")
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("ImportError:"), done.stderr
        assert "pip install" in last or "build_ext" in last


@pytest.mark.skipif(not (CHECKOUT / "lstm_ext").is_dir(), reason="the tests stand alone here")
def test_python_m_from_an_unbuilt_checkout(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "lstm_ext", "info"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=source_tree(tmp_path),
        env=os.environ | {"PYTHONPATH": ""},
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1]
        assert "pip install" in last or "build_ext" in last, done.stderr
