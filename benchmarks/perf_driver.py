r"""One steady loop for a profiler to look at: the same call again and again, compared with nothing.

    perf record -e cpu-clock -g python benchmarks/perf_driver.py training --seconds 5
    valgrind --tool=callgrind --instr-atstart=no \\
        python benchmarks/perf_driver.py training --calls 3 --callgrind

docs/profiling.md shows what they print. With ``--callgrind`` the loop turns callgrind's instruments on after
the warm-up and off behind the last call, so that neither import nor exit is in its figures.
"""

import argparse
import os
import subprocess
import time

from problem import Problem

MODES = ("inference", "training", "step")


def make_call(mode, problem):
    """Return the call of the loop, on data that the problem draws."""
    import lstm_ext

    lstm = lstm_ext.LSTM(problem.input_size, problem.hidden_size, dtype=problem.dtype, rng=0)
    for name, weight in zip(("weight_ih_l0", "weight_hh_l0", "bias_l0"), problem.weights, strict=True):
        lstm[name] = weight
    x = problem.x
    if mode == "inference":
        return lambda: lstm(x)
    if mode == "training":
        tape, dy = lstm.tape(), problem.dy

        def call():
            lstm.gradient[:] = 0
            lstm.forward(x, tape=tape)
            lstm.backward(tape, dy)

        return call

    stream = lstm.stream(batch=problem.batch)
    steps = [x[:, t].copy() for t in range(problem.time)]
    y_t = problem.dy[:, 0].copy()

    def sequence():
        for x_t in steps:
            stream.step(x_t, out=y_t)

    return sequence


def instrument(on):
    """Turn callgrind's instruments on or off, in this process, which it runs."""
    command = ["callgrind_control", f"--instr={'on' if on else 'off'}", str(os.getpid())]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main(arguments=None):
    """Run the loop and print how many calls it made."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("mode", choices=MODES)
    parser.add_argument(
        "--shape", default="100,32,32,64", metavar="T,N,I,H", help="default: %(default)s"
    )
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--kernel", help="avx512, avx2, baseline or blas; default: the best here")
    how_long = parser.add_mutually_exclusive_group()
    how_long.add_argument("--seconds", type=float, default=5.0, help="default: %(default)s")
    how_long.add_argument("--calls", type=int, help="this many calls, however long they take")
    parser.add_argument("--callgrind", action="store_true", help="instruments on after the warm-up")
    options = parser.parse_args(arguments)

    from lstm_ext import _kernels

    if options.kernel:
        _kernels.select(options.kernel)
    sizes = [int(size) for size in options.shape.split(",")]
    call = make_call(options.mode, Problem(*sizes, dtype=options.dtype))
    for _ in range(2):
        call()
    if options.callgrind:
        instrument(True)
    calls, end = 0, time.perf_counter() + options.seconds
    while calls < options.calls if options.calls is not None else time.perf_counter() < end:
        call()
        calls += 1
    if options.callgrind:
        instrument(False)
    print(f"{calls} calls of {options.mode}, {_kernels.current()}, T,N,I,H {options.shape}")


if __name__ == "__main__":
    main()
