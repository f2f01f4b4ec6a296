"""C and Fortran: what is written compiles without a warning and computes what the model computes."""

import ctypes
import itertools
import os
import platform
import re
import shutil
import subprocess

import numpy as np
import pytest

from lstm_ext import LSTM, Model
from lstm_ext._options import ACTIVATIONS
from lstm_ext.io import _c_templates, export_c

COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wdouble-promotion"]
needs_c = pytest.mark.skipif(not COMPILERS, reason="neither gcc nor clang is here: no C was compiled or run")
needs_fortran = pytest.mark.skipif(
    not (shutil.which("gfortran") and shutil.which("gcc")),
    reason="gfortran is not here: the Fortran module was neither compiled nor run",
)
STEPS, I, H = 1000, 5, 7  # noqa: E741
# Between two orders of summation over 1000 steps, relative to 1 or the largest output.
CLOSE = {"float32": 1e-6, "float64": 1e-12}

OPTIONS = {
    "plain": {},
    "layers": {"num_layers": 3},
    "identity": {"cell_activation": "identity"},
    "peepholes": {"num_layers": 2, "peepholes": True},
    "coupled": {"coupled_gates": True},
    "coupled_peepholes": {"coupled_gates": True, "peepholes": True},
    "clips": {"gate_clip": 0.8, "cell_clip": 0.5},
    "projection": {"num_layers": 2, "proj_size": 3},
    "no_bias": {"bias": False},
    "zoneout": {"zoneout": (0.1, 0.2)},
    "learn_state": {"num_layers": 2, "learn_state": True},
    "bidirectional": {"num_layers": 2, "bidirectional": True},
    "reverse": {"num_layers": 2, "reverse": True},
    "all_backwards": {
        "num_layers": 2,
        "bidirectional": True,
        "peepholes": True,
        "proj_size": 3,
        "bias": False,
        "learn_state": True,
    },
    "all": {
        "num_layers": 2,
        "peepholes": True,
        "coupled_gates": True,
        "gate_clip": 0.8,
        "cell_clip": 0.5,
        "proj_size": 3,
        "bias": False,
        "learn_state": True,
        "activations": ("hard_sigmoid", ("scaled_tanh", 0.9, 0.8), "softsign"),
    },
}


def drawn(thing, seed=0):
    thing.parameters = 0.4 * np.random.default_rng(seed).normal(size=thing.parameters.size)
    return thing


def model_of(options, dtype, head):
    lstm = drawn(LSTM(I, H, dtype=dtype, **options))
    return drawn(Model(lstm, 2, every_step=True), 1) if head else lstm


def compiled(folder, stem="net", compiler=None, more=("-O2",)):
    """Compile one source without a warning, and load it."""
    library = folder / f"{stem}.so"
    command = [
        compiler or COMPILERS[0],
        *STRICT,
        *more,
        "-shared",
        "-fPIC",
        folder / f"{stem}.c",
        "-o",
        library,
    ]
    done = subprocess.run([*command, "-lm"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return ctypes.CDLL(str(library))


def stepped(library, name, x, outputs, state_bytes=2**14):
    """All steps of one sequence from a fresh state."""
    state, y = ctypes.create_string_buffer(state_bytes), np.empty((len(x), outputs), x.dtype)
    reset, step = getattr(library, f"{name}_reset"), getattr(library, f"{name}_step")
    reset(state)
    for x_t, y_t in zip(x, y, strict=True):
        step(state, ctypes.c_void_p(x_t.ctypes.data), ctypes.c_void_p(y_t.ctypes.data))
    return y


def in_one_call(library, name, x, outputs):
    """All steps of one sequence; the memory beyond what is asked for stays as it is."""
    work, sequence = getattr(library, f"{name}_work"), getattr(library, f"{name}_sequence")
    work.restype, work.argtypes = ctypes.c_size_t, [ctypes.c_size_t]
    sequence.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p]
    room, y = np.full(work(len(x)) + 1, 77, x.dtype), np.full((len(x) + 1, outputs), 77, x.dtype)
    sequence(x.ctypes.data, len(x), room.ctypes.data, y.ctypes.data)
    assert room[-1] == 77 and (y[-1] == 77).all()
    return y[:-1]


def computed(library, name, thing, x, outputs):
    """Step by step where that is possible, and in one call, which gives the same."""
    whole, lstm = in_one_call(library, name, x, outputs), thing if isinstance(thing, LSTM) else thing.lstm
    if not (lstm.bidirectional or lstm.reverse):
        np.testing.assert_array_equal(stepped(library, name, x, outputs), whole)
    return whole


def expected(thing, x):
    return thing.predict(x[None])[0] if isinstance(thing, Model) else thing(x)[0]


def inputs(dtype, steps=STEPS):
    return np.random.default_rng(2).normal(size=(steps, I)).astype(dtype)


def assert_same(mine, theirs, what=""):
    error = np.abs(mine - theirs).max() / max(1, np.abs(theirs).max())
    assert error < CLOSE[mine.dtype.name], f"{what}: {error}"


@needs_c
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_thousand_steps_are_those_of_the_model(name, dtype, tmp_path):
    weights = "binary" if dtype == "float32" else "inline"  # the other way around, below
    for head in (False, True):
        thing, x = model_of(OPTIONS[name], dtype, head), inputs(dtype)
        stem = f"net{head:d}"
        export_c(thing, tmp_path / f"{stem}.c", weights=weights, name="net")
        library = compiled(tmp_path, stem)
        if weights == "binary":
            assert library.net_load(os.fsencode(tmp_path / f"{stem}.bin")) == 0
        theirs = expected(thing, x)
        assert_same(computed(library, "net", thing, x, theirs.shape[1]), theirs, name)


@needs_c
@pytest.mark.parametrize("options", ["plain", "layers", "bidirectional", "reverse", "learn_state"])
@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_read_out_of_all_steps(pooling, options, dtype, tmp_path):
    lstm = LSTM(I, H, dtype=dtype, **OPTIONS[options])
    model = drawn(Model(lstm, 2, pooling=pooling))
    export_c(model, tmp_path / "net.c", name="net")
    library = compiled(tmp_path, more=("-O2", "-Wconversion", "-Wshadow", "-Wundef", "-Wstrict-prototypes"))
    for steps in (0, 1, 2, 300):
        x = inputs(dtype, steps)
        theirs = model.predict(np.zeros((1, 1, I), dtype), [0])[0] if not steps else model.predict(x[None])[0]
        work, y = np.zeros((2, 2**14), dtype)
        library.net_sequence(
            ctypes.c_void_p(x.ctypes.data), ctypes.c_size_t(steps), ctypes.c_void_p(work.ctypes.data),
            ctypes.c_void_p(y.ctypes.data),
        )
        assert_same(y[:2], theirs)
        assert not y[2:].any()
    if not (lstm.bidirectional or lstm.reverse):
        by_step = stepped(library, "net", x, 2)
        for t in (0, 1, 17, 299):
            assert_same(by_step[t], model.predict(x[None, : t + 1])[0])


@needs_c
@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_a_nan_spoils_what_is_pooled(pooling, tmp_path):
    model = drawn(Model(LSTM(I, H), 2, pooling=pooling))
    export_c(model, tmp_path / "net.c", name="net")
    x = inputs("float32", 6)
    x[3] = np.nan
    y = stepped(compiled(tmp_path), "net", x, 2)
    assert np.isfinite(y[:3]).all() and np.isnan(y[3:]).all()


@needs_c
@pytest.mark.parametrize(("weights", "dtype"), [("inline", "float32"), ("binary", "float64")])
def test_inline_and_binary_weights(weights, dtype, tmp_path):
    thing, x = model_of({"num_layers": 2}, dtype, True), inputs(dtype)
    export_c(thing, tmp_path / "net.c", weights=weights, name="net")
    library = compiled(tmp_path)
    if weights == "binary":
        assert library.net_load(os.fsencode(tmp_path / "net.bin")) == 0
    assert_same(stepped(library, "net", x, 2), expected(thing, x))


def small(word):
    candidate = "tanh" if word == "exponential" else word  # which would grow without bounds
    return drawn(LSTM(I, 2, dtype="float64", activations=("sigmoid", candidate, word)))


@needs_c
def test_every_activation(tmp_path):
    """All of them in one library, each a model of its own name, in float64."""
    x, sources = inputs("float64", 50), []
    for word in ACTIVATIONS:
        thing = small(word)
        sources.append(tmp_path / f"{word}.c")
        export_c(thing, sources[-1], name=word)
    library = tmp_path / "all.so"
    command = [COMPILERS[0], *STRICT, "-O1", "-shared", "-fPIC", *sources, "-o", library, "-lm"]
    subprocess.run(command, check=True)
    library = ctypes.CDLL(str(library))
    for word in ACTIVATIONS:
        thing = small(word)
        theirs = expected(thing, x)
        assert np.isfinite(theirs).all()
        assert_same(stepped(library, word, x, 2), theirs, word)
    assert set(_c_templates.ACTIVATIONS) == set(ACTIVATIONS)


@needs_c
def test_activations_have_the_alpha_and_beta_that_they_are_given(tmp_path):
    given = (("hard_sigmoid", 0.3, 0.4), ("elu", 0.6), ("thresholded_relu", 0.01))
    thing, x = drawn(LSTM(I, H, activations=given)), inputs("float32")
    export_c(thing, tmp_path / "net.c", name="net")
    assert_same(stepped(compiled(tmp_path), "net", x, H), expected(thing, x))


@needs_c
@pytest.mark.parametrize("level", ["-O0", "-O3"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_functions_at_their_ends(dtype, level, tmp_path):
    """One unit whose gates are open or shut: h is tanh(tanh(x)); NaN stays NaN, inf saturates."""
    lstm = LSTM(1, 1, dtype=dtype, init={"weight_ih": 0, "weight_hh": 0, "bias": 0})
    lstm["bias_l0"] = [1000, -1000, 0, 1000]
    huge = 2.0 ** (np.finfo(dtype).maxexp - 28)
    lstm["weight_ih_l0"][2] = huge
    export_c(lstm, tmp_path / "net.c", name="net")
    library = compiled(tmp_path, more=(level,))
    x = np.array([0, 1e-3, -1e-3, 0.5, -3, 20, -87, 90, -1e6, np.inf, -np.inf, np.nan], dtype)
    given = np.where(np.isinf(x), np.sign(x) * 2.0**40, x / huge).astype(dtype)  # times huge it is x
    y = np.concatenate([stepped(library, "net", value.reshape(1, 1), 1) for value in given])[:, 0]
    assert np.isnan(y[-1])
    assert_same(y[:-1], np.tanh(np.tanh(x[:-1])))


@needs_c
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("level", ["-O0", "-O2", "-O3"])
def test_compilers_have_nothing_to_say(level, compiler, tmp_path):
    for k, (size, weights) in enumerate(itertools.product((3, 8), ("inline", "binary"))):
        model = drawn(Model(LSTM(size, size, num_layers=2, peepholes=True, learn_state=True), 1))
        export_c(model, tmp_path / f"net{k}.c", weights=weights)
        compiled(
            tmp_path,
            f"net{k}",
            compiler,
            (level, "-Wconversion", "-Wshadow", "-Wundef", "-Wstrict-prototypes"),
        )


FAST = [
    ("-Ofast",), ("-O3", "-ffast-math"), ("-Ofast", "-march=native"),
    ("-O2", "-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math"),
]


@needs_c
@pytest.mark.parametrize("flags", FAST, ids=" ".join)
def test_compilers_that_reorder_sums_change_last_digits_alone(flags, tmp_path):
    """Every option and activation, 1,000 steps. Linked without the flags, which change the whole process."""
    things = {f"{name}_{dtype}": model_of(words, dtype, True)
              for name, words in OPTIONS.items() for dtype in ("float32", "float64")}
    things |= {f"function_{word}": small(word) for word in ACTIVATIONS}
    objects = []
    for name, thing in things.items():
        export_c(thing, tmp_path / f"{name}.c", name=name[:30])
        objects.append(tmp_path / f"{name}.o")
        command = [COMPILERS[0], "-std=c99", *flags, "-fPIC", "-c", tmp_path / f"{name}.c", "-o", objects[-1]]
        subprocess.run(command, check=True)
    subprocess.run([COMPILERS[0], "-shared", *objects, "-o", tmp_path / "all.so", "-lm"], check=True)
    library = ctypes.CDLL(str(tmp_path / "all.so"))
    for name, thing in things.items():
        lstm = thing if isinstance(thing, LSTM) else thing.lstm
        x = inputs(lstm.dtype.name, 50 if name.startswith("function") else STEPS)
        theirs = expected(thing, x)
        mine = in_one_call(library, name[:30], x, theirs.shape[1])
        assert np.abs(mine - theirs).max() <= 4 * CLOSE[lstm.dtype.name] * max(1, np.abs(theirs).max()), name


@needs_c
@pytest.mark.parametrize("flags", FAST, ids=" ".join)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sigma_and_tanh_when_sums_are_reordered(flags, dtype, tmp_path):
    """c of one unit whose gates are open is tanh(x), over all of the range."""
    zero = {"weight_ih": 0, "weight_hh": 0, "bias": 0}
    lstm = LSTM(1, 1, dtype=dtype, init=zero, cell_activation="identity")
    lstm["bias_l0"] = [50, -50, 0, 50]
    lstm["weight_ih_l0"][2] = 1
    export_c(lstm, tmp_path / "net.c", name="net")
    subprocess.run([COMPILERS[0], "-std=c99", *flags, "-fPIC", "-c", "net.c"], cwd=tmp_path, check=True)
    subprocess.run([COMPILERS[0], "-shared", "net.o", "-o", "net.so", "-lm"], cwd=tmp_path, check=True)
    library, x = ctypes.CDLL(str(tmp_path / "net.so")), np.linspace(-60, 60, 4001).astype(dtype)
    y = np.concatenate([stepped(library, "net", value.reshape(1, 1), 1) for value in x])[:, 0]
    assert np.abs(y - np.tanh(x)).max() < (3e-7 if dtype == "float32" else 1e-15)


@needs_c
def test_subnormals_are_flushed_on_demand(tmp_path):
    export_c(drawn(LSTM(I, H), 0), tmp_path / "net.c", name="net")
    command = [COMPILERS[0], *STRICT, "-shared", "-fPIC", "net.c", "-o", "net.so", "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    library = ctypes.CDLL(str(tmp_path / "net.so"))
    library.net_flush_subnormals.restype = ctypes.c_ulong
    library.net_restore_subnormals.argtypes = [ctypes.c_ulong]
    smallest = np.array([np.finfo(np.float64).tiny])
    assert (smallest / 4)[0] > 0
    mode = library.net_flush_subnormals()
    flushed = smallest / 4
    library.net_restore_subnormals(mode)
    if platform.machine() in ("x86_64", "AMD64", "aarch64", "arm64"):
        assert flushed[0] == 0
    assert (smallest / 4)[0] > 0


@needs_c
def test_a_header_of_another_export_does_not_compile(tmp_path):
    for weights in ("inline", "binary"):
        for k, size in enumerate((H, H + (weights == "binary"))):
            export_c(drawn(LSTM(I, size), k), tmp_path / f"net{k}.c", weights=weights, name="net")
        (tmp_path / "net0.h").write_text((tmp_path / "net1.h").read_text())
        command = [COMPILERS[0], "-c", "net0.c"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode and "were not written together" in done.stderr


@pytest.mark.parametrize("broken", range(4))
def test_a_set_of_files_is_replaced_whole_or_not_at_all(broken, tmp_path, monkeypatch):
    names = ["net.c", "net.h", "net.f90", "net.bin"]
    for existing in (names, []):
        for name in names:
            (tmp_path / name).unlink(missing_ok=True)
        if existing:
            export_c(drawn(LSTM(I, H), 1), tmp_path / "net.c", weights="binary")
        before = {name: (tmp_path / name).read_bytes() for name in existing}
        for function in ("fsync", "replace"):
            calls, plain = [], getattr(os, function)

            def failing(*arguments, calls=calls, plain=plain):
                calls.append(arguments)
                if len(calls) == broken + 1:
                    raise OSError(28, "No space left on device")
                return plain(*arguments)

            with monkeypatch.context() as patch:
                patch.setattr(os, function, failing)
                with pytest.raises(OSError, match="No space left"):
                    export_c(drawn(LSTM(I, H), 2), tmp_path / "net.c", weights="binary")
            assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before


@needs_c
def test_two_models_link_together_and_states_do_not_meet(tmp_path):
    first, second = drawn(LSTM(I, H), 1), drawn(Model(LSTM(I, 3, num_layers=2), 1), 2)
    export_c(first, tmp_path / "first.c", name="first")
    export_c(second, tmp_path / "second.c", name="second")
    (tmp_path / "main.c").write_text("""\
#include <stdio.h>
#include "first.h"
#include "second.h"

int main(void)
{
    first_state a, b;
    second_state c;
    float x[FIRST_INPUT_SIZE], y[FIRST_OUTPUT_SIZE], z[SECOND_OUTPUT_SIZE];
    int t, j;

    first_reset(&a);
    first_reset(&b);
    second_reset(&c);
    for (t = 0; t < 10; t++) {
        for (j = 0; j < FIRST_INPUT_SIZE; j++)
            x[j] = (float)(t - j) / 8.0f;
        first_step(&a, x, y);
        if (t > 4)
            first_step(&b, x, y);
        second_step(&c, x, z);
    }
    for (j = 0; j < FIRST_OUTPUT_SIZE; j++)
        printf("%.9g ", (double)y[j]);
    printf("%.9g %d", (double)z[0], (int)sizeof a);
    return 0;
}
""")
    program, sources = tmp_path / "main", [tmp_path / f"{n}.c" for n in ("main", "first", "second")]
    subprocess.run([COMPILERS[0], *STRICT, "-O2", *sources, "-o", program, "-lm"], check=True)
    words = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()
    x = ((np.arange(10)[:, None] - np.arange(I)) / 8).astype("float32")
    assert_same(np.array(words[:H], "float32"), first(x[5:])[0][-1])
    assert_same(np.array(words[H : H + 1], "float32"), second.predict(x[None])[0])
    assert int(words[-1]) == 2 * H * 4  # known when it is compiled: h and c


@needs_c
def test_it_can_be_included_in_cpp(tmp_path):
    if not shutil.which("g++"):
        pytest.skip("g++ is not here: the header was not compiled as C++")
    export_c(LSTM(I, H), tmp_path / "net.c", name="net")
    (tmp_path / "main.cpp").write_text(
        '#include "net.h"\nint main() { net_state s; net_reset(&s); return s.h[0][0] != 0; }\n'
    )
    subprocess.run(["gcc", *STRICT, "-c", tmp_path / "net.c", "-o", tmp_path / "net.o"], check=True)
    subprocess.run(
        ["g++", "-Wall", "-Werror", tmp_path / "main.cpp", tmp_path / "net.o", "-o", tmp_path / "a", "-lm"],
        check=True,
    )
    assert subprocess.run([tmp_path / "a"], check=False).returncode == 0


@needs_c
def test_a_file_of_weights_is_read_whole_or_not_at_all(tmp_path):
    thing = drawn(Model(LSTM(I, H), 2, every_step=True))
    export_c(thing, tmp_path / "net.c", weights="binary", name="net")
    library, good = compiled(tmp_path), (tmp_path / "net.bin").read_bytes()
    x = inputs("float32", 5)

    def load(content):
        (tmp_path / "try.bin").write_bytes(content)
        return library.net_load(os.fsencode(tmp_path / "try.bin"))

    assert library.net_load(b"/nowhere/net.bin") == 1
    assert np.isnan(stepped(library, "net", x, 2)).all()  # no weights yet
    assert np.isnan(in_one_call(library, "net", x, 2)).all()
    export_c(drawn(Model(LSTM(I, H), 3)), tmp_path / "other.c", weights="binary")
    cases = {
        2: [b"x" + good[1:], good[:30] + b"x" + good[31:], (tmp_path / "other.bin").read_bytes()],
        3: [b"", good[:10], good[:-1], good + b"x"],
        4: [good[:-1] + bytes([good[-1] ^ 1]), good[:40] + bytes([good[40] ^ 128]) + good[41:]],
    }
    for code, contents in cases.items():
        for content in contents:
            assert load(good) == 0
            assert load(content) == code
            assert np.isnan(stepped(library, "net", x, 2)).all()
    assert load(good) == 0
    assert_same(stepped(library, "net", x, 2), expected(thing, x))


@needs_fortran
@pytest.mark.parametrize(("weights", "dtype"), [("inline", "float64"), ("binary", "float32")])
def test_fortran_steps_the_model(weights, dtype, tmp_path):
    thing, kind = (
        model_of({"num_layers": 2, "proj_size": 3}, dtype, True),
        {"float32": "c_float"}.get(dtype, "c_double"),
    )
    export_c(thing, tmp_path / "network.c", weights=weights, name="network")
    load = (
        "if (network_load('network.bin' // c_null_char) /= 0) error stop 1"
        if weights == "binary"
        else "continue"
    )
    (tmp_path / "main.f90").write_text(f"""\
program main
    use, intrinsic :: iso_c_binding
    use network
    implicit none
    type(network_state) :: state
    real({kind}) :: x(network_input_size), y(network_output_size)
    integer :: t, j

    {load}
    call network_reset(state)
    do t = 1, {STEPS}
        do j = 1, network_input_size
            x(j) = real(mod(t * j, 17) - 8, {kind}) / 8
        end do
        call network_step(state, x, y)
        print '(2es26.17)', y
    end do
    if (size(state%c, 1) /= {H} .or. size(state%c, 2) /= 2) error stop 2
end program main
""")
    subprocess.run(["gcc", *STRICT, "-O2", "-c", "network.c"], cwd=tmp_path, check=True)
    subprocess.run(  # error stop is of 2008
        ["gfortran", "-std=f2008", "-Wall", "network.f90", "main.f90", "network.o", "-o", "main", "-lm"],
        cwd=tmp_path,
        check=True,
    )
    printed = subprocess.run(
        [tmp_path / "main"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    y = np.array(printed.split(), dtype).reshape(STEPS, 2)
    t, j = np.arange(1, STEPS + 1)[:, None], np.arange(1, I + 1)
    assert_same(y, expected(thing, ((t * j % 17 - 8) / 8).astype(dtype)))


@needs_fortran
def test_the_module_is_fortran_2003(tmp_path):
    for k, weights in enumerate(("inline", "binary")):
        model = drawn(Model(LSTM(I, H, num_layers=1 + k, bidirectional=bool(k)), 2, pooling="mean"))
        export_c(model, tmp_path / f"net{k}.c", weights=weights, name="n" * 30)
        done = subprocess.run(
            ["gfortran", "-std=f2003", "-Wall", "-Wextra", "-Werror", "-pedantic", "-c", f"net{k}.f90"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


# ---- the text


def test_files_and_their_names(tmp_path):
    written = export_c(LSTM(I, H), tmp_path / "net-1.c", weights="binary", name="net")
    assert written == [str(tmp_path / f"net-1.{kind}") for kind in ("c", "h", "f90", "bin")]
    assert sorted(os.listdir(tmp_path)) == ["net-1.bin", "net-1.c", "net-1.f90", "net-1.h"]
    assert sorted(os.path.basename(p) for p in export_c(LSTM(I, H), tmp_path / "a.c")) == [
        "a.c",
        "a.f90",
        "a.h",
    ]


def test_nothing_is_allocated_and_nothing_is_left_open(tmp_path):
    export_c(Model(LSTM(I, H, num_layers=2), 1), tmp_path / "net.c", name="net")
    source = (tmp_path / "net.c").read_text()
    assert set(re.findall(r"#include <(.*)>", source)) == {"math.h", "stddef.h", "stdint.h", "string.h"}
    assert not re.search(r"\b(m|c|re)alloc\b|\bfree\b|\$|//", source)
    assert max(map(len, source.splitlines())) <= 130


def test_numbers_are_exact(tmp_path):
    for dtype in ("float32", "float64"):
        lstm = LSTM(1, 2, dtype=dtype, rng=0)
        values = np.array([0.1, -0.0, 5e-324 if dtype == "float64" else 1e-45, 1.0, -1e30, 1 / 3], dtype)
        lstm["weight_ih_l0"][:6, 0] = values
        export_c(lstm, tmp_path / "net.c")
        block = re.search(r"matrix_l0 = \{(.*?)\}", (tmp_path / "net.c").read_text(), re.DOTALL)[1]
        read = np.array([float.fromhex(word.rstrip("f")) for word in block.replace(",", " ").split()], dtype)
        assert read[:6].tobytes() == values.tobytes()
        assert (
            read.tobytes() == np.concatenate([lstm["weight_ih_l0"], lstm["weight_hh_l0"]], axis=1).T.tobytes()
        )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"layer_norm": True}, "layer_norm=True cannot be exported to C"),
        ({"static_size": 2}, "static_size cannot be exported to C"),
        ({"nan": "hold"}, "nan cannot be exported to C"),
        ({"nan": "zero", "nan_mask": True}, "nan cannot be exported to C"),
    ],
)
def test_what_is_not_written_is_refused(words, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        export_c(LSTM(I, H, **words), tmp_path / "net.c")
    assert not os.listdir(tmp_path)


def test_wrong_arguments_are_refused_and_nothing_is_written(tmp_path):
    lstm, path = LSTM(I, H), tmp_path / "net.c"
    for error, said, arguments in (
        (TypeError, "model is int; expected an LSTM, a Model or a fitted estimator", {"model": 3}),
        (ValueError, "expected the name of a C source", {"path": tmp_path / "net.h"}),
        (ValueError, "expected the name of a C source", {"path": tmp_path / 'a".c'}),
        (ValueError, "weights is 'none'; expected 'inline' or 'binary'", {"weights": "none"}),
        (ValueError, "name is '1st'; expected a letter", {"name": "1st"}),
        (ValueError, "name is 'a b'; expected a letter", {"name": "a b"}),
        (ValueError, "expected a letter", {"name": "n" * 31}),
    ):
        with pytest.raises(error, match=said):
            export_c(**{"model": lstm, "path": path, **arguments})
    lstm["bias_l0"][1] = np.nan
    with pytest.raises(ValueError, match="hold NaN or inf"):
        export_c(lstm, path)
    assert not os.listdir(tmp_path)
