"""Models in control: a CasADi external with its Jacobian, and a Functional Mock-up Unit, both of C."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from typing import TYPE_CHECKING, Any, Literal
from xml.sax.saxutils import quoteattr

from lstm_ext import __version__
from lstm_ext._files import replace_file
from lstm_ext.io import _c_templates, _control_templates
from lstm_ext.io.c_export import expression, sources, write_sources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lstm_ext.lstm import LSTM
    from lstm_ext.model import Model

__all__ = ["export_casadi", "export_fmu"]


def export_casadi(
    model: LSTM | Model | Any, path: str | os.PathLike[str], *, name: str = "model",
) -> list[str]:
    """Write C for ``casadi.external``: one time step (x, h, c) -> (y, h, c), with its exact Jacobian.

    Beside the files of `export_c` stands ``NAME_casadi.c``, which includes the source. Compile it as a shared
    library, without CasADi, and load it: ``cc -O3 -shared -fPIC controller_casadi.c -o controller.so -lm``,
    ``casadi.external("controller_casadi", "./controller.so")``. For second derivatives see `to_casadi`.

    Parameters
    ----------
    model : LSTM, Model, LSTMRegressor, LSTMClassifier, pipeline or search
        With the options that `export_c` takes.
    path : path
        Of the C source, ``controller.c``.
    name : str, default "model"
        What all names begin with; the function is ``NAME_casadi``.

    Returns
    -------
    list of str
        The files. After an error all former ones stand.

    Raises
    ------
    TypeError, ValueError
        As `export_c`.
    """
    folder, file_name = os.path.split(os.fspath(path))
    stem = file_name.removesuffix(".c")
    if stem == file_name or not stem:
        raise ValueError(f"path is {path!r}; expected the name of a C source, controller.c")
    contents, options, values = _with_tangent(model, stem, name, "a CasADi external")
    text = _control_templates.TANGENT + _control_templates.CASADI
    contents[f"{stem}_casadi.c"] = _c_templates.render(text, options, values).encode()
    return write_sources(folder, contents)


def _with_tangent(
    model: Any, stem: str, name: str, target: str
) -> tuple[dict[str, bytes], dict[str, Any], dict[str, Any]]:
    """Return files, options and values of an export, with the values of the template of tangents."""
    contents, options, values, (lstm, arrays) = sources(model, stem, name, False, target)
    if options["y_sorted"]:
        raise ValueError(f"the estimator's quantiles are put in order, which {target} cannot differentiate")
    slopes = [expression(given, lstm.dtype, _control_templates.SLOPES) for given in lstm.activations]
    calls = []
    for layer in range(lstm.num_layers):
        given = [f"weights.{key}" for key in arrays if key.endswith(f"_l{layer}")]
        if layer:
            given += [f"before.h[{layer - 1}]", f"dstate->h[{layer - 1}]", "STATE"]
        else:
            given += ["scaled", "dscaled", "INPUTS"] if options["scaled"] else ["x", "dx", "INPUTS"]
        given += [f"before.{word}[{layer}]" for word in "hc"] + [f"dstate->{word}[{layer}]" for word in "hc"]
        calls.append(f"    layer_tangent({', '.join(given)});")
    values = {
        **values, "tangent_calls": "\n".join(calls), "gate_slope": slopes[0], "candidate_slope": slopes[1],
        "cell_slope": slopes[2],
    }
    return contents, {**options, "mish": "mish_slope" in "".join(slopes)}, values


def export_fmu(
    model: LSTM | Model | Any, path: str | os.PathLike[str], *, name: str = "model", step_size: float = 1.0,
    inputs: Sequence[str] | None = None, outputs: Sequence[str] | None = None,
    compiler: str | bool | None = None,
) -> str:
    """Write a Functional Mock-up Unit of FMI 3.0 for Co-Simulation, with directional derivatives.

    The unit takes a step of the model for each `step_size` of time, with the inputs that are set then, and
    gives the outputs after it; 0 before the first. It holds the C source and a library for this machine.
    States may be saved and set again. Derivatives are those of the outputs of the last step by its inputs.

    Parameters
    ----------
    model : LSTM, Model, LSTMRegressor, LSTMClassifier, pipeline or search
        With the options that `export_c` takes. Of a fitted estimator inputs and outputs are in their units.
    path : path
        ``controller.fmu``.
    name : str, default "model"
        Of the model.
    step_size : float, default 1.0
        Seconds of a time step. A communication step is this or a multiple of it.
    inputs, outputs : sequence of str, optional
        Names of the variables. None: x1, x2, ... and y1, y2, ...
    compiler : str, optional
        That makes the library. None: ``$CC``, or that of Python. False: sources alone.

    Returns
    -------
    str
        The path.

    Raises
    ------
    TypeError, ValueError
        As `export_c`, and for names that are not those of the variables, or a step that is not positive.
    FileNotFoundError
        If there is no compiler.
    RuntimeError
        If it fails.
    """
    if isinstance(step_size, bool) or not isinstance(step_size, (int, float)) or not 0 < step_size < 1e300:
        raise ValueError(f"step_size is {step_size!r}; expected a positive number of seconds")
    contents, options, values = _with_tangent(model, name, name, "an FMU")
    given = _variables("inputs", inputs, "x", values["inputs"])
    taken = _variables("outputs", outputs, "y", values["outputs"])
    if set(given) & set(taken):
        common = min(set(given) & set(taken))
        raise ValueError(f"inputs and outputs have {common!r} in common; expected two names")
    token = hashlib.sha256(
        b"".join([contents[f"{name}.c"], repr((given, taken, float(step_size))).encode()])
    ).hexdigest()
    values |= {
        "step_size": float(step_size).hex(), "token": token,
        "not_here": "\n".join(f"NOT_HERE({function})" for function in _control_templates.NOT_HERE),
    }
    text = _control_templates.TANGENT + _control_templates.FMI
    del contents[f"{name}.f90"]
    contents[f"{name}_fmi.c"] = _c_templates.render(text, options, values).encode()
    members = {"modelDescription.xml": _description(name, token, float(step_size), given, taken)}
    members |= {f"sources/{file}": content for file, content in contents.items()}
    members["sources/buildDescription.xml"] = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<fmiBuildDescription fmiVersion="3.0">\n'
        f'  <BuildConfiguration modelIdentifier="{name}">\n    <SourceFileSet language="C99">\n'
        f'      <SourceFile name="{name}_fmi.c"/>\n    </SourceFileSet>\n  </BuildConfiguration>\n'
        "</fmiBuildDescription>\n"
    ).encode()
    if compiler is not False:
        members[f"binaries/{_platform()}/{name}{_ending()}"] = _compiled(compiler, name, contents)
    with replace_file(path) as temporary, open(temporary, "wb") as file:
        file.write(_zipped(members))
    return os.fspath(path)


def _variables(what: str, names: Sequence[str] | None, letter: str, count: int) -> list[str]:
    """Return the names of variables, checked."""
    if names is None:
        return [f"{letter}{k + 1}" for k in range(count)]
    names = list(names)
    plain = all(isinstance(own, str) and own and own.isprintable() for own in names)
    if not plain or len(names) != count or len(set(names)) != count or "time" in names:
        raise ValueError(f"{what} is {names!r}; expected {count} different names, none of them 'time'")
    return names


def _description(
    name: str, token: str, step_size: float, inputs: Sequence[str], outputs: Sequence[str]
) -> bytes:
    """Return modelDescription.xml, as FMI 3.0 has it."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<fmiModelDescription fmiVersion="3.0" modelName="{name}" instantiationToken="{token}"',
        f'    generationTool="lstm_ext {__version__}" variableNamingConvention="flat">',
        f'  <CoSimulation modelIdentifier="{name}" canHandleVariableCommunicationStepSize="true"',
        f'      fixedInternalStepSize="{step_size!r}" canGetAndSetFMUState="true"',
        '      providesDirectionalDerivatives="true"/>',
        f'  <DefaultExperiment startTime="0.0" stepSize="{step_size!r}"/>',
        "  <ModelVariables>",
        '    <Float64 name="time" valueReference="0" causality="independent" variability="continuous"/>',
    ]
    for k, own in enumerate(inputs, 1):
        lines.append(
            f'    <Float64 name={quoteattr(own)} valueReference="{k}" causality="input" start="0.0"/>'
        )
    first = 1 + len(inputs)
    for k, own in enumerate(outputs, first):
        lines.append(
            f'    <Float64 name={quoteattr(own)} valueReference="{k}" causality="output" '
            'initial="calculated"/>'
        )
    lines += ["  </ModelVariables>", "  <ModelStructure>"]
    dependencies = " ".join(str(k) for k in range(1, first))
    for k in range(first, first + len(outputs)):
        lines.append(f'    <Output valueReference="{k}" dependencies="{dependencies}"/>')
    for k in range(first, first + len(outputs)):
        lines.append(f'    <InitialUnknown valueReference="{k}" dependencies=""/>')
    lines += ["  </ModelStructure>", "</fmiModelDescription>"]
    return ("\n".join(lines) + "\n").encode()


def _platform() -> str:
    """Return FMI's name of this machine."""
    machine = platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64", "i386": "x86", "i686": "x86"}.get(machine, machine)
    return f"{machine}-{'windows' if sys.platform == 'win32' else sys.platform}"


def _ending() -> str:
    return {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")


def _compiled(compiler: str | Literal[True] | None, name: str, contents: dict[str, bytes]) -> bytes:
    """Return the bytes of the library."""
    if compiler is None or compiler is True:
        compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    command = compiler.split()
    if not command or shutil.which(command[0]) is None:
        raise FileNotFoundError(
            f"there is no compiler {compiler!r}; expected compiler=, or False for sources alone"
        )
    with tempfile.TemporaryDirectory() as folder:
        for file, content in contents.items():
            with open(os.path.join(folder, file), "wb") as source:
                source.write(content)
        target = f"{name}{_ending()}"
        command += ["-std=c99", "-O2", "-shared", "-fPIC", f"{name}_fmi.c", "-o", target, "-lm"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{compiler} does not compile the unit: {done.stderr[-500:]}")
        with open(os.path.join(folder, target), "rb") as library:
            return library.read()


def _zipped(members: dict[str, bytes]) -> bytes:
    """Return the bytes of a zip archive, the same for the same members."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in members.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), value, zipfile.ZIP_DEFLATED)
    return content.getvalue()
