"""The shape of rainfall-runoff modelling: time next to torch's, and what is learned of a water balance.

The shape is that of F. Kratzert et al., "Towards learning universal, regional, and local hydrological
behaviors via machine learning applied to large-sample datasets", HESS 23:5089-5110, 2019: 531 basins, 365
days, 5 forcings and 27 attributes of the basin at every step, 256 units, mini-batches of 256; nine years
of days are 1.75 million sequences an epoch. Their data are not here: rain, temperature and the basins are
drawn at random, and a small bucket model with snow, soil and groundwater makes the runoff.

Two tables. Time: a few whole steps (forward, backward, Adam) of each library, in turns, on one thread;
the epoch is extrapolated from their median, and not run. Skill: a network of reduced size, trained for a
short time, on the last two years of its basins: median Nash-Sutcliffe efficiency (NSE, 1 is perfect, 0
the basin's mean), next to calendar-day means and to a ridge regression.

    python benchmarks/papers/hydrology.py [--seeds 10] [--steps 5] [--only time skill] [--quick]
"""

import time
from importlib.util import find_spec

import numpy as np
from common import Stopwatch, arguments, machine, say, spread, table

from lstm_ext import LSTM, Adam, Model

BASINS, DAYS, FORCINGS, ATTRIBUTES, HIDDEN, BATCH = 531, 365, 5, 27, 256, 256
EPOCH = BASINS * 3288  # sequences: every day from October 1999 to September 2008


# The synthetic water balance ------------------------------------------------------------------------


def weather(rng, attributes, days):
    """Draw forcings (basins, days, 5).

    Rain (mm), radiation (W/m2), the coldest and the warmest temperature (C), vapour pressure (kPa).
    Attributes 0 to 2 set the climate: how much it rains, how often, and how warm it is.
    """
    basins, phase = len(attributes), 2 * np.pi * np.arange(days) / 365.25
    wetness = 0.3 + 0.1 * np.tanh(attributes[:, 1])
    wet, rain = np.zeros(basins, bool), np.zeros((basins, days))
    warm, noise = np.zeros((basins, days)), np.zeros(basins)
    for day in range(days):
        wet = rng.uniform(size=basins) < np.where(wet, wetness + 0.25, wetness)
        amount = rng.gamma(0.7, 1 / 0.7, basins) * 8 * np.exp(0.3 * attributes[:, 0])
        rain[:, day] = np.where(wet, amount, 0)
        noise = 0.8 * noise + rng.normal(0, 2, basins)
        warm[:, day] = 8 + 4 * attributes[:, 2] - 11 * np.cos(phase[day]) + noise
    span = 4 + rng.gamma(4, 0.5, rain.shape)
    sun = (200 - 120 * np.cos(phase)) * np.where(rain > 0, 0.6, 1) * rng.uniform(0.8, 1.1, rain.shape)
    vapour = 0.611 * np.exp(17.3 * (warm - span) / (warm - span + 237.3))
    return np.stack([rain, sun, warm - span, warm + span, vapour], axis=2)


def bucket_model(forcings, attributes):
    """Let rain run off: degree-day snow, a soil that sheds more the wetter it is, fast and slow reservoirs.

    Attributes 3 to 7 are the soil's capacity and shape, both reservoirs' rates, and the degree-day factor.

    Returns
    -------
    runoff, evaporation : ndarrays of shape (basins, days)
        mm a day.
    stored : ndarray of shape (basins,)
        mm in all stores at the end, which were empty at the beginning.
    """
    capacity = 150 * np.exp(0.4 * attributes[:, 3])
    shape = 2 * np.exp(0.3 * attributes[:, 4])
    fast = 0.35 / (1 + np.exp(-attributes[:, 5])) + 0.1
    slow = 0.02 * np.exp(0.4 * attributes[:, 6])
    degree_day = 3 * np.exp(0.2 * attributes[:, 7])
    snow, soil, quick, ground = np.zeros((4, len(attributes)))
    runoff, evaporation = np.zeros((2, *forcings.shape[:2]))
    for day in range(forcings.shape[1]):
        rain, sun, coldest, warmest, _ = forcings[:, day].T
        warm = (coldest + warmest) / 2
        frozen = np.where(warm < 0, rain, 0)
        melt = np.minimum(snow, degree_day * np.maximum(warm, 0))
        snow += frozen - melt
        water = rain - frozen + melt
        surplus = water * np.minimum(soil / capacity, 1) ** shape
        soil += water - surplus
        wanted = 0.4 * sun / 28.4 * np.maximum(warm + 5, 0) / 25  # 28.4 W/m2 evaporate a millimetre a day
        evaporated = np.minimum(soil, wanted * np.minimum(soil / (0.6 * capacity), 1))
        soil -= evaporated
        seep = 0.02 * soil
        soil -= seep
        quick += surplus
        ground += seep
        out, base = fast * quick, slow * ground
        quick -= out
        ground -= base
        runoff[:, day], evaporation[:, day] = out + base, evaporated
    return runoff, evaporation, snow + soil + quick + ground


def basins(rng, count, days):
    """Draw basins: forcings (count, days, 5), attributes (count, 27), 8 of which matter, runoff."""
    attributes = rng.normal(0, 1, (count, ATTRIBUTES))
    forcings = weather(rng, attributes, days)
    return forcings, attributes, bucket_model(forcings, attributes)[0]


# Time -------------------------------------------------------------------------------------------------


def our_step(x, y, hidden):
    """Return a function that takes one whole training step of ours."""
    model = Model(LSTM(x.shape[2], hidden, init={"forget_bias": 3}, rng=0), 1, rng=0)
    optimizer = Adam(1e-3, max_norm=1.0)

    def step():
        model.loss_and_gradient(x, y)
        optimizer.step(model.parameters, model.gradient)

    return step


def torch_step(x, y, hidden):
    """Return a function that takes the same step with torch."""
    import torch

    torch.set_num_threads(1)
    lstm, readout = torch.nn.LSTM(x.shape[2], hidden, batch_first=True), torch.nn.Linear(hidden, 1)
    parameters = [*lstm.parameters(), *readout.parameters()]
    optimizer = torch.optim.Adam(parameters, 1e-3)
    x, y = torch.from_numpy(x), torch.from_numpy(y)

    def step():
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(readout(lstm(x)[1][0][-1]), y).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return step


def timing(steps, batch, days, hidden):
    """Rows of the first table: processor time of a step of each library, taken in turns."""
    rng = np.random.default_rng(0)
    forcings, attributes, runoff = basins(rng, batch, days + 1)
    x = inputs(forcings[:, :days], attributes, *scales(forcings))
    y = runoff[:, -1:].astype(np.float32)
    contestants = {"lstm-ext": our_step(x, y, hidden)}
    if find_spec("torch"):
        contestants["torch"] = torch_step(x, y, hidden)
    seconds = {name: [] for name in contestants}
    for turn in range(steps + 1):
        for name, step in contestants.items():
            start, wall = time.process_time(), time.perf_counter()
            step()
            spent, wall = time.process_time() - start, time.perf_counter() - wall
            say(f"  {name}: {spent:.3f} s, on the wall {wall:.3f} s")
            if turn:  # the first warms up
                seconds[name].append(spent)
    for name, some in seconds.items():
        middle = np.median(some)
        yield [
            name, len(some), f"{middle:.3f}", f"{min(some):.3f}-{max(some):.3f}",
            f"{middle * EPOCH / batch / 3600:.1f}", f"{middle / np.median(seconds['lstm-ext']):.2f}",
        ]


# Skill ------------------------------------------------------------------------------------------------


def scales(forcings):
    return forcings.mean((0, 1)), forcings.std((0, 1))


def inputs(forcings, attributes, mean, scale):
    """Join forcings, scaled, and the attributes at every step: (N, T, 32), float32."""
    repeated = np.broadcast_to(attributes[:, None], (*forcings.shape[:2], ATTRIBUTES))
    return np.concatenate([(forcings - mean) / scale, repeated], axis=2, dtype=np.float32)


def nse(simulated, observed):
    """Nash-Sutcliffe efficiency of each basin, 1 - sum of squared errors / that of the observed mean."""
    spread_of = ((observed - observed.mean(1, keepdims=True)) ** 2).sum(1)
    return 1 - ((simulated - observed) ** 2).sum(1) / spread_of


def calendar_means(runoff, first, days):
    """Forecast with the mean of the calendar day, and of 15 days around it, before `first`."""
    means = np.stack([runoff[:, day:first:365].mean(1) for day in range(365)], axis=1)
    kernel = np.ones(31) / 31
    smooth = np.stack([np.convolve(np.r_[m[-15:], m, m[:15]], kernel, "valid") for m in means])
    return smooth[:, days % 365]


def ridge(forcings, attributes, runoff, first, days, window):
    """Forecast with a regression on means of the forcings over 1 to 256 days and the attributes."""

    def regressors(days):
        total = np.pad(np.cumsum(forcings, axis=1), ((0, 0), (1, 0), (0, 0)))
        spans = [s for s in (1, 2, 4, 8, 16, 32, 64, 128, 256) if s <= window]
        means = np.concatenate([(total[:, days + 1] - total[:, days + 1 - s]) / s for s in spans], axis=2)
        fixed = np.broadcast_to(attributes[:, None], (*means.shape[:2], ATTRIBUTES))
        products = (means[..., :, None] * fixed[..., None, :8]).reshape(*means.shape[:2], -1)
        return np.concatenate([means, fixed, products], axis=2).reshape(-1, means.shape[2] * 9 + ATTRIBUTES)

    learned_from = np.arange(window, first, 7)
    a, b = regressors(learned_from), runoff[:, learned_from].reshape(-1)
    mean, scale, level = a.mean(0), a.std(0), b.mean()
    a = (a - mean) / scale
    solution = np.linalg.solve(a.T @ a + 1e-3 * len(a) * np.eye(a.shape[1]), a.T @ (b - level))
    forecast = (regressors(days) - mean) / scale @ solution + level
    return forecast.reshape(len(runoff), len(days))


def skill(seed, count, years, hidden, batch, steps, window=DAYS, lr=5e-3):
    """Train on all but the last two years of some basins; return NSE by model, losses, and seconds."""
    rng = np.random.default_rng(seed)
    forcings, attributes, runoff = basins(rng, count, 365 * years)
    first = 365 * (years - 2)
    days = np.arange(first, 365 * years, 7)  # tested
    mean, scale = scales(forcings[:, :first])
    level, width = runoff[:, :first].mean(), runoff[:, :first].std()
    x = inputs(forcings, attributes, mean, scale)

    def sequences(basin, day):
        return x[basin[:, None], day[:, None] + np.arange(1 - window, 1)]

    watch = Stopwatch()
    model = Model(LSTM(x.shape[2], hidden, init={"forget_bias": 3}, rng=rng), 1, rng=rng)
    optimizer, losses = Adam(lr, max_norm=1.0), []
    for step in range(steps):
        basin, day = rng.integers(0, count, batch), rng.integers(window - 1, first, batch)
        y = (runoff[basin, day][:, None] - level) / width
        losses.append(model.loss_and_gradient(sequences(basin, day), y))
        optimizer.lr = lr * 0.5 * (1 + np.cos(np.pi * step / steps))
        optimizer.step(model.parameters, model.gradient)
    seconds = watch.seconds
    one_by_one = [model.predict(sequences(np.full_like(days, b), days))[:, 0] for b in range(count)]
    observed, tenth = runoff[:, days], max(1, steps // 10)
    return {
        "lstm": nse(np.stack(one_by_one) * width + level, observed),
        "ridge": nse(ridge(forcings, attributes, runoff, first, days, window), observed),
        "calendar": nse(calendar_means(runoff, first, days), observed),
        "first": np.mean(losses[:tenth]), "last": np.mean(losses[-tenth:]), "seconds": seconds,
    }


def main(argv=None):
    options = arguments(
        __doc__, "tiny sizes", argv,
        steps={"type": int, "default": None, "help": "timed steps of each library; default 5, quick 1"},
        only={"nargs": "+", "choices": ["time", "skill"], "default": ["time", "skill"], "help": "tables"},
    )
    lines = []
    if "time" in options.only:
        batch, days, hidden = (4, 10, 8) if options.quick else (BATCH, DAYS, HIDDEN)
        lines = list(timing(options.steps or (1 if options.quick else 5), batch, days, hidden))
        header = ["", "steps", "CPU seconds a step, median", "range", "hours an epoch, extrapolated", "ratio"]
        print(table(header, lines))
        print(f"\n{batch} sequences of {days} steps, {FORCINGS + ATTRIBUTES} inputs, {hidden} units, "
              f"float32; an epoch is {EPOCH:,} sequences. {machine()}\n")
    if "skill" in options.only:
        size = {"count": 60, "years": 7, "hidden": 32, "batch": 64, "steps": 400}
        if options.quick:
            size = {"count": 3, "years": 4, "hidden": 4, "batch": 8, "steps": 4}
        runs = []
        for seed in options.seeds:
            runs.append(skill(seed, **size))
            one = {key: round(float(np.median(value)), 3) for key, value in runs[-1].items()}
            say(f"seed {seed}: {one}")
        rows = []
        names = {"LSTM": "lstm", "ridge regression": "ridge", "calendar-day means": "calendar"}
        for name, key in names.items():
            middle, worst = ([f(r[key]) for r in runs] for f in (np.median, np.min))
            rows.append([name, len(runs), spread(middle, ".3f"), spread(worst, ".2f")])
        falls = [np.mean([r[key] for r in runs]) for key in ("first", "last")]
        print(table(["", "runs", "NSE, median basin", "NSE, worst basin"], rows))
        print(f"\n{size['count']} basins, {size['hidden']} units, {size['steps']} steps of {size['batch']} "
              f"sequences: loss from {falls[0]:.3f} (first tenth of the steps) to {falls[1]:.3f} (last), "
              f"{spread([r['seconds'] for r in runs], '.0f')} CPU seconds a run. {machine()}")
        lines += rows
    return lines


if __name__ == "__main__":
    main()
