"""Tables, the summary, and the plot."""

import math

PEER_NAMES = ("torch", "onnxruntime", "jax")


def duration(seconds):
    for unit, scale in (("us", 1e-6), ("ms", 1e-3)):
        if seconds < 999.5 * scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds:.3g} s"


def geometric_mean(values):
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def first(row):
    """Return the entry that the others are held against."""
    return next(iter(row["entries"].values()))


def ratio(row, label):
    """Return how many times as long as the first entry this one takes."""
    return row["entries"][label]["seconds"] / first(row)["seconds"]


def fastest_peer(row):
    """Return the label of the fastest peer at the same problem, or None."""
    peers = [
        k for k, e in row["entries"].items() if e["is_peer"] and e["same_problem"] and "error" not in e
    ]
    return min(peers, key=lambda label: ratio(row, label), default=None)


def share(row, entry):
    """Return the part of the limit that an entry of the row's own problem reaches, or None."""
    if "least_seconds" not in row or not entry["same_problem"]:
        return None
    return row["least_seconds"] / entry["seconds"]


def print_machine(machine):
    print("# Benchmarks of lstm_ext\n")
    print(f"{machine['cpu']}, {machine['cpus']} CPUs; {machine['system']}; "
          f"Python {machine['python']}, NumPy {machine['numpy']}", flush=True)  # fmt: skip


def print_process(process):
    threads = process["threads"]
    versions = ", ".join(f"{name} {version}" for name, version in process["versions"].items())
    print(f"\n{threads} thread{'s' * (threads > 1)} on CPU {process['cpus']}: {versions}; "
          f"kernel {process['kernel']}")  # fmt: skip
    for name, reason in process["missing"].items():
        print(f"without {name}: {reason}")
    for name, rate in process["limits"].items():
        print(f"multiply-adds, one thread, {name}: {rate / 1e9:.1f} GFLOP/s")


def print_header(row):
    print(f"\n## {row['section']}\n")
    cells = ["T, N, I, H", "what", "limit", *row["labels"], "fastest peer"]
    print("| " + " | ".join(cells) + " |")
    print("|" + "---|" * len(cells), flush=True)


def print_row(row):
    what = row["what"] + " float64" * (row["dtype"] == "float64")
    cells = [row["problem"], what, _limit(row)]
    for label in row["labels"]:
        entry = row["entries"].get(label)
        cells.append("cannot" if entry is None else _cell(row, label, entry))
    peer = fastest_peer(row)
    cells.append(f"{ratio(row, peer):.2f}x" if peer else "")
    print("| " + " | ".join(cells) + " |", flush=True)


def _limit(row):
    if not row["rates"]:
        return ""
    text = f"{row['rates']['multiply-add'] / 1e9:.0f} GF/s"
    if "read" in row["rates"]:
        text += f", {row['rates']['read'] / 1e9:.0f} GB/s"
    return text


def _cell(row, label, entry):
    low, high = entry["quartiles"]
    text = f"{duration(entry['seconds'])} ±{50 * (high - low) / entry['seconds']:.0f} %"
    if "flop_rate" in entry and (entry is first(row) or row["section"] == "kernels"):
        text += f", {entry['flop_rate'] / 1e9:.1f} GF/s"
        if (part := share(row, entry)) is not None:
            text += f" ({100 * part:.0f} %)"
    if entry is not first(row):
        text += f", {ratio(row, label):.2f}x"
    if "error" in entry:
        text += f", error {entry['error']:.0e}"
    if entry["disturbed"]:
        text += f" (disturbed {entry['disturbed']}/{entry['rounds']})"
    return text


def print_memory(row):
    value = f"{row['bytes'] / 1e6:.1f} MB" if "bytes" in row else row["error"].splitlines()[-1]
    print(f"- {row['label']}: {value}", flush=True)


def print_summary(results):
    """Print the figures that a reader asks for first."""
    print("\n## summary\n")
    for line in summary(results["rows"]):
        print(f"- {line}")
    print(f"- the run took {results['seconds']:.0f} s", flush=True)


def summary(rows):
    for section in ("inference", "training", "float64", "threads"):
        for what in ("inference", "training"):
            chosen = [r for r in rows if (r["section"], r["what"]) == (section, what)]
            compared = [r for r in chosen if fastest_peer(r)]
            if not compared:
                continue
            name = what if section == what else f"{section}, {what}"
            closest = min(compared, key=lambda r: ratio(r, fastest_peer(r)))
            peer = fastest_peer(closest)
            yield (f"{name}: {ratio(closest, peer):.2f} x the fastest peer at the least "
                   f"({peer} at {closest['problem']})")  # fmt: skip
            for peer in PEER_NAMES:
                ratios = [ratio(r, peer) for r in compared if peer in r["entries"]]
                if ratios:
                    yield (f"{name}: geometric mean {geometric_mean(ratios):.2f} x {peer} "
                           f"({min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip
    for what in ("inference", "training"):
        big = [share(r, first(r)) for r in rows
               if r["section"] == r["what"] == what and r["sizes"][1] >= 64
               and r["sizes"][3] >= 256 and "least_seconds" in r]  # fmt: skip
        if big:
            yield (f"{what}, N >= 64, H >= 256: {100 * min(big):.0f} to {100 * max(big):.0f} % "
                   "of the multiply-add limit")  # fmt: skip
    for row in rows:
        where = f"{row['section']}, {row['what']} {row['problem']}"
        entries = row["entries"]
        if row["section"] == "ragged":
            line = f"{where}: {1 / ratio(row, 'lstm_ext dense'):.2f} of our dense time"
            yield line + (
                f", {ratio(row, 'torch'):.1f} x torch packed" if "torch" in entries else ""
            )
        if row["section"] == "threads" and "lstm_ext, 1 thread" in entries:
            yield f"{where}: {ratio(row, 'lstm_ext, 1 thread'):.2f} x one thread"
        if row["section"] == "node":
            in_float32 = entries["NumPy"]["seconds"] / entries["float32"]["seconds"]
            yield f"{where}: {ratio(row, 'NumPy'):.1f} x NumPy, {in_float32:.1f} x in float32"
        if row["section"] == "checkpoint":
            yield f"{where}: {ratio(row, 'checkpoint'):.2f} x the time without"
        if row["section"] == "options":
            labels = [label for label in entries if label != "lstm_ext"]
            yield f"{where}: " + ", ".join(f"{k} {ratio(row, k):.2f}" for k in labels) + " x the time without"
        if row["section"] == "precision":
            lower = [label for label, e in entries.items() if "error" in e]
            yield f"{where}: " + ", ".join(f"{k} {1 / ratio(row, k):.2f}" for k in lower) + " x our float32"
        if row["section"] == "hvp":
            yield f"{where}: {ratio(row, 'hvp'):.2f} gradients" + (
                f"; torch {ratio(row, 'torch hvp') / ratio(row, 'torch gradient'):.2f} of its own, "
                f"{entries['torch hvp']['seconds'] / entries['hvp']['seconds']:.1f} x our time"
                if "torch hvp" in entries else ""
            )
        if row["section"] == "step" and "onnxruntime" in entries:
            yield (f"{where}: {duration(first(row)['seconds'])}, "
                   f"{ratio(row, 'onnxruntime'):.1f} x as fast as onnxruntime")  # fmt: skip


def plot(results, path):
    """Draw the share of the CPU's limit that everybody reaches, shape by shape."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    styles = {"jax": "C3^", "onnxruntime": "C2D", "torch": "C1s", "lstm_ext": "C0o"}  # ours on top
    figure, panels = plt.subplots(1, 2, figsize=(11, 6), sharey=True, layout="constrained")
    for panel, what in zip(panels, ("inference", "training"), strict=True):
        rows = [r for r in results["rows"] if r["section"] == r["what"] == what]
        for label, style in styles.items():
            points = [
                (100 * part, r["problem"])
                for r in rows
                if label in r["entries"] and (part := share(r, r["entries"][label])) is not None
            ]
            if points:
                panel.plot(*zip(*points, strict=True), style, label=label)
        panel.set(title=what, xlabel="% of the limit measured in the same run", xlim=(0, 100))
        panel.grid(axis="x", alpha=0.3)
    panels[0].invert_yaxis()  # shared
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(f"One thread of {results['machine']['cpu']}, float32")
    figure.savefig(path, dpi=150)
    plt.close(figure)
