"""Losses of distributions in readable Python, one number at a time: the vectorised ones are compared to it.

Negative binomial, mean mu and dispersion alpha (Cameron & Trivedi 2013, NB2), r = 1 / alpha::

    P(y) = Gamma(y + r) / (Gamma(r) y!) (r / (r + mu))^r (mu / (r + mu))^y

Student's t with location mu, scale sigma and nu degrees of freedom (Lange, Little & Taylor 1989)::

    p(y) = Gamma((nu + 1) / 2) / (Gamma(nu / 2) sqrt(nu pi) sigma) (1 + z^2 / nu)^(-(nu + 1) / 2)

Countable mixture of asymmetric Laplacians (Klotz et al. 2022, HESS 26:1673)::

    p(y) = sum_m pi_m tau_m (1 - tau_m) / b_m exp(-(y - mu_m) (tau_m - [y < mu_m]) / b_m)

A row of outputs holds, for each number of a distribution, one after the other all K targets.
"""

import math


def softplus(x):
    """log(1 + e^x)."""
    return math.log1p(math.exp(x)) if x < 30 else x


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def negative_binomial(numbers, y, loss):
    log_mean, raw = numbers
    mean, r = math.exp(log_mean), 1 / (loss.min_dispersion + softplus(raw))
    log = math.lgamma(y + r) - math.lgamma(r) - math.lgamma(y + 1)
    return -(log + r * math.log(r / (r + mean)) + y * math.log(mean / (r + mean)))


def student_t(numbers, y, loss):
    mean, raw, raw_df = numbers
    scale, df = loss.min_scale + softplus(raw), 2 + softplus(raw_df)
    z = (y - mean) / scale
    log = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi) - math.log(scale)
    return -(log - (df + 1) / 2 * math.log(1 + z * z / df))


def asymmetric_laplace_mixture(numbers, y, loss):
    m = loss.components
    a, places, raws, ts = (numbers[k * m : (k + 1) * m] for k in range(4))
    total = sum(math.exp(x) for x in a)
    density = 0.0
    for share, place, raw, t in zip(a, places, raws, ts, strict=True):
        b, tau = loss.min_scale + softplus(raw), sigmoid(t)
        side = tau - (1 if y < place else 0)
        density += math.exp(share) / total * tau * (1 - tau) / b * math.exp(-(y - place) / b * side)
    return -math.log(density)


COSTS = {
    "NegativeBinomial": negative_binomial,
    "StudentT": student_t,
    "AsymmetricLaplaceMixture": asymmetric_laplace_mixture,
}


def value(loss, predictions, targets):
    """Mean cost over rows and targets."""
    cost, columns = COSTS[type(loss).__name__], targets.shape[1]
    costs = [
        cost([float(v) for v in row[k::columns]], float(y[k]), loss)
        for row, y in zip(predictions, targets, strict=True) for k in range(columns)
    ]
    return sum(costs) / len(costs)
