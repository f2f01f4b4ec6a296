"""The run: a process for one thread, a process for several, one for each measurement of memory."""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import memory
import numpy as np
import report
from worker import usable_cpus

SECTIONS = (
    "inference",
    "training",
    "float64",
    "ragged",
    "step",
    "kernels",
    "checkpoint",
    "options",
    "precision",
    "hvp",
    "node",
    "threads",
    "memory",
)
WORKER = Path(__file__).with_name("worker.py")


def run(options):
    """Run the sections that `options` names, print as they come, and return everything."""
    start = time.time()
    results = {"machine": machine(), "options": options, "processes": [], "rows": [], "memory": []}
    report.print_machine(results["machine"])
    timed = [name for name in options["sections"] if name not in ("threads", "memory")]
    if timed:
        _collect(results, options | {"sections": timed, "threads": 1})
    if "threads" in options["sections"]:
        _collect(results, options | {"sections": ["threads"]})
    if "memory" in options["sections"]:
        print("\n## memory\n", flush=True)
        for label in (*memory.OURS, *(p for p in options["peers"] if p != "onnxruntime")):
            row = {"label": label}
            try:
                row["bytes"] = memory.in_subprocess(label, options["quick"], environment(1))
            except RuntimeError as error:
                row["error"] = str(error)
            results["memory"].append(row)
            report.print_memory(row)
    results["seconds"] = time.time() - start
    report.print_summary(results)
    return results


def machine():
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        fields = dict(
            (part.strip() for part in line.split(":", 1))
            for line in cpuinfo.read_text().splitlines()
            if ":" in line
        )
        model = fields.get("model name", model)
        if "cpu family" in fields:
            model += f" (family {fields['cpu family']}, model {fields['model']})"
    return {
        "cpu": model,
        "cpus": len(usable_cpus()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def environment(threads):
    """Return the environment in which every contestant has `threads` threads."""
    env = dict(os.environ)
    for name in ("OMP", "MKL", "OPENBLAS"):
        env[f"{name}_NUM_THREADS"] = str(threads)
    if threads == 1:
        flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        env["XLA_FLAGS"] = f"{env.get('XLA_FLAGS', '')} {flags}".strip()
    env["JAX_PLATFORMS"] = "cpu"
    return env


def _collect(results, options):
    """Start a worker; print and keep what it sends, a line of JSON for each result."""
    command = [sys.executable, str(WORKER), json.dumps(options)]
    env = environment(options["threads"])
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        section = None
        for line in process.stdout:
            message = json.loads(line)
            if "process" in message:
                results["processes"].append(message["process"])
                report.print_process(message["process"])
                continue
            row = message["row"]
            results["rows"].append(row)
            if row["section"] != section:
                section = row["section"]
                report.print_header(row)
            report.print_row(row)
    if process.returncode:
        raise SystemExit(f"the worker with {options['threads']} threads failed, see above")
