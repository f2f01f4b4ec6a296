"""The text of what `export_c` writes: a header, a C99 source, a Fortran module.

A line that ends in ``//? word`` stands there only with the option `word`, ``//? !word`` only without it;
several options must all hold. Lines between ``//? word {`` and ``//? }`` stand there with the option.
``${name}`` is replaced.
"""

from __future__ import annotations

from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def render(template: str, options: Mapping[str, bool], values: Mapping[str, object]) -> str:
    """Fill a template.

    Parameters
    ----------
    template : str
    options : dict of bool
        Which lines stand.
    values : dict
        What is put in.
    """
    lines, block = [], True
    for line in template.splitlines():
        code, _, rest = line.partition("//?")
        conditions = rest.strip(" {}").split()
        stands = all(options[word.lstrip("!")] != word.startswith("!") for word in conditions)
        if rest.endswith(("{", "}")):
            block = stands
        elif stands and block:
            lines.append(code.rstrip())
    return Template("\n".join(lines) + "\n").substitute(values)


# Functions of x by the names of `LSTM`'s activations; ${f}: the suffix of float32; ${alpha}, ${beta}: its
# numbers.
ACTIVATIONS = {
    "sigmoid": "1.0${f} / (1.0${f} + exponential(-x))",
    "tanh": "1.0${f} - 2.0${f} / (1.0${f} + exponential(2.0${f} * x))",
    "identity": "x",
    "linear": "x",
    "affine": "${alpha} * x + ${beta}",
    "scaled_tanh": "${alpha} * tanh${f}(${beta} * x)",
    "hard_sigmoid": "between(${alpha} * x + ${beta}, 0.0${f}, 1.0${f})",
    "relu": "x < 0.0${f} ? 0.0${f} : x",
    "relu6": "between(x, 0.0${f}, 6.0${f})",
    "hard_tanh": "between(x, -1.0${f}, 1.0${f})",
    "leaky_relu": "x > 0.0${f} ? x : ${alpha} * x",
    "thresholded_relu": "x <= ${alpha} ? 0.0${f} : x",
    "elu": "x > 0.0${f} ? x : ${alpha} * expm1${f}(x)",
    "selu": "${beta} * (x > 0.0${f} ? x : ${alpha} * expm1${f}(x))",
    "softsign": "x / (1.0${f} + fabs${f}(x))",
    "softplus": "x > 0.0${f} ? x + log1p${f}(exp${f}(-x)) : log1p${f}(exp${f}(x))",
    "exponential": "exp${f}(x)",
    "silu": "x / (1.0${f} + exp${f}(-x))",
    "swish": "x / (1.0${f} + exp${f}(-x))",
    "gelu": "0.5${f} * x * erfc${f}(-x * ${root_half})",
    "mish": "x * tanh${f}(x > 0.0${f} ? x + log1p${f}(exp${f}(-x)) : log1p${f}(exp${f}(x)))",
    "hard_silu": "x * between(x / 6.0${f} + 0.5${f}, 0.0${f}, 1.0${f})",
}

HEADER = """\
/* ${title}
 * Written by lstm_ext ${version}: C99, no dependency but libm, nothing is allocated.
 *
 *     ${name}_load("${binary_name}");              once; 0 if all went well  //? binary
 *     ${name}_sequence(x, steps, work, y);         a whole sequence
 *
 * or step by step:  //? streams
 *  //? streams
 *     ${name}_state state;  //? streams
 *     ${name}_reset(&state);                       before each sequence  //? streams
 *     ${name}_step(&state, x, y);                  for each time step  //? streams
 *  //? streams
 * Any number of sequences may be computed at a time, from any threads. */
#ifndef ${NAME}_H
#define ${NAME}_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ${NAME}_INPUT_SIZE ${inputs}
#define ${NAME}_OUTPUT_SIZE ${outputs}
#define ${NAME}_SET ${set} /* what the source that belongs to this header has, too */

//? streams {
/* Hidden and cell states of each layer: all that is carried from step to step. */  //? !pooled !merged
/* All that is carried from step to step: hidden and cell states of each layer, */  //? pooled
/* All that is carried from step to step: hidden and cell states of each layer, */  //? merged !pooled
/* the sum over the steps so far that the mean is made of, */  //? pool_mean
/* the largest values of the steps so far, */  //? pool_max
/* the weighted sum over the steps so far, the sum of the weights, the largest score, */  //? pool_attention
/* and the steps that wait until ${merge} of them can be read as one. */  //? merged
typedef struct ${name}_state {
    ${real} h[${layers}][${state}];
    ${real} c[${layers}][${units}];
    ${real} part[${merge} * ${inputs}];  //? merged
    int waiting;  //? merged
    double pool[${state} + 2];  //? pooled
} ${name}_state;

//? }
//? binary {
/* Read the weights. 0: they are there. 1: the file cannot be opened. 2: it does not belong to this model, or
 * to this kind of machine. 3: it is shorter or longer than it should be. 4: it is damaged. After 2, 3 and 4
 * there are no weights. Not while another thread steps. */
int ${name}_load(const char *path);

//? }
/* How many numbers `work` of ${name}_sequence has for so many steps. */
size_t ${name}_work(size_t steps);

/* A whole sequence: x holds steps times ${NAME}_INPUT_SIZE numbers, work ${name}_work(steps); y takes */
/* steps times ${NAME}_OUTPUT_SIZE: ${y_is}. */  //? each_step
/* ${NAME}_OUTPUT_SIZE: ${y_of_all}. */  //? !each_step
/* Without weights y is NaN. */  //? binary
void ${name}_sequence(const ${outer} *x, size_t steps, ${real} *work, ${outer} *y);

//? streams {
/* Begin a sequence: zeros. */  //? !learn_state
/* Begin a sequence: the states that were learnt. */  //? learn_state
void ${name}_reset(${name}_state *state);

/* One time step: x holds ${NAME}_INPUT_SIZE numbers, y takes ${NAME}_OUTPUT_SIZE: ${y_is}. */
/* Without weights y is NaN. */  //? binary
void ${name}_step(${name}_state *state, const ${outer} *x, ${outer} *y);

//? }
/* Subnormal numbers (below 1e-38, in double 1e-308) as 0 in the calling thread, until the second function is
 * given what the first returned: states that fade out cost many CPUs a hundred times the usual time. With
 * gcc and clang on x86-64 and arm64; elsewhere nothing happens. */
unsigned long ${name}_flush_subnormals(void);
void ${name}_restore_subnormals(unsigned long mode);

#ifdef __cplusplus
}
#endif

#endif
"""

SOURCE = """\
/* ${title}
 * Written by lstm_ext ${version}: C99, no dependency but libm, nothing is allocated.
 *
 * Of each layer, for one time step, with the gates in the order i, f, g, o:
 *
 *     a = b + W x + U h
 *     i = gate(a_i + p_i c)    f = gate(a_f + p_f c)    g = candidate(a_g)  //? peepholes !coupled_gates
 *     i = gate(a_i + p_i c)    f = 1 - i    g = candidate(a_g)  //? peepholes coupled_gates
 *     i = gate(a_i)    f = gate(a_f)    g = candidate(a_g)  //? !peepholes !coupled_gates
 *     i = gate(a_i)    f = 1 - i    g = candidate(a_g)  //? !peepholes coupled_gates
 *     k = f c + i g
 *     k within -CELL_CLIP and CELL_CLIP  //? cell_clip
 *     o = gate(a_o + p_o k)    m = o cell(k)  //? peepholes
 *     o = gate(a_o)    m = o cell(k)  //? !peepholes
 *     the inputs of gate and candidate within -GATE_CLIP and GATE_CLIP  //? gate_clip
 *     c = k    h = m  //? !zoneout !projection
 *     c = k    h = R m  //? projection
 *     c = k + z_c (c - k)    h = m + z_h (h - m)  //? zoneout
 *
 * and y = b + W h of the last layer. */  //? readout !pooled
 * and y = b + W p, p the mean of h of the last layer over the steps. */  //? pool_mean
 * and y = b + W p, p the largest values of h of the last layer over the steps. */  //? pool_max
 * and y = b + W p, p = sum_t e^(v.h_t) h_t / sum_t e^(v.h_t) of the last layer. */  //? pool_attention
 * and y = h of the last layer. */  //? !readout
#include "${header}"

#if ${NAME}_SET != ${set}
#error "this file and ${header} were not written together: export the model again"
#endif

#include <math.h>
#include <stddef.h>
#include <stdint.h>  //? exponential
#include <stdio.h>  //? binary
#include <string.h>

typedef ${real} real;
typedef ${word} word;  //? exponential
typedef u${word} unsigned_word;  //? exponential

enum {
    INPUTS = ${inputs},
    READ = ${merge} * INPUTS, /* numbers that a step of the network reads: of ${merge} steps */
    UNITS = ${units},
    GATES = 4 * UNITS,
    STATE = ${state}, /* numbers in h */
    FEATURES = ${directions} * STATE, /* of both directions */  //? bidirectional
    FEATURES = STATE,  //? !bidirectional
    OUTPUTS = ${outputs}
};

#define GATE_CLIP ${gate_clip_value}  //? gate_clip
#define CELL_CLIP ${cell_clip_value}  //? cell_clip
#define ZONEOUT_H ${zoneout_h_value}  //? zoneout
#define ZONEOUT_C ${zoneout_c_value}  //? zoneout

/* The weights. matrix: W and U, transposed, one row of GATES numbers for each element of x, then of h. */
static const struct weights {  //? !binary
static struct weights {  //? binary
${declarations}
//? !binary {
} weights = {
${initializers}
};
//? }
//? binary {
} weights;

static int loaded = 0;
//? }

/* ---- functions */

//? exponential {
/* e^x = 2^n e^r, n the integer next to x / ln 2, |r| <= ln(2) / 2, e^r by its Taylor polynomial; |x| stays
 * within ${exp_limit}, where sigma and tanh are 0 or 1. No branches, no calls, and the clamp on bits, so that
 * compilers make vectors of it: gcc from -O3 on. NaN stays NaN. Additions
 * in another order, as -ffast-math allows, change no more than last digits. */
static real exponential(real x)
{
    const real round = ${exp_round}; /* 1.5 * 2^${mantissa}: what is added to it is rounded to an integer */
    const word round_exponent = ${round_exponent};
    const word sign = ${word_min}, limit = ${exp_limit_bits};
    const word infinity = ${infinity_bits}, one = ${one_bits};
    word bits, magnitude;
    real n, r, sum, power;

    memcpy(&bits, &x, sizeof bits);
    magnitude = bits & ~sign;
    magnitude = ((magnitude > limit) & (magnitude <= infinity)) ? limit : magnitude;
    bits = (bits & sign) | magnitude;
    memcpy(&x, &bits, sizeof x);

    n = x * ${log2_e} + round;
    memcpy(&bits, &n, sizeof bits);
    bits |= round_exponent; /* they are set; compilers do not know, and cannot take n for x again */
    memcpy(&n, &bits, sizeof n);
    n = n - round;
    r = x - n * ${ln_2_high};
    r = r - n * ${ln_2_low};
    bits = (word)((unsigned_word)bits << ${mantissa}) + one;
    memcpy(&power, &bits, sizeof power);
${polynomial}
    return power + power * (r * sum);
}

//? }
//? between {
static real between(real x, real low, real high)
{
    return x < low ? low : x > high ? high : x;
}

//? }
/* ${gate_name} */
static real gate(real x)
{
    x = between(x, -GATE_CLIP, GATE_CLIP);  //? gate_clip
    return ${gate};
}

/* ${candidate_name} */
static real candidate(real x)
{
    x = between(x, -GATE_CLIP, GATE_CLIP);  //? gate_clip
    return ${candidate};
}

/* ${cell_name} */
static real cell(real x)
{
    return ${cell};
}

/* a += x matrix, of n rows: four rows at a time, so that a is read and written a quarter as often. */
static void add_product(real *restrict a, const real *restrict matrix, const real *restrict x, int n)
{
    int j, r;

    for (j = 0; j + 4 <= n; j += 4, matrix += 4 * GATES) {
        const real x0 = x[j], x1 = x[j + 1], x2 = x[j + 2], x3 = x[j + 3];
        for (r = 0; r < GATES; r++)
            a[r] += matrix[r] * x0 + matrix[GATES + r] * x1 + matrix[2 * GATES + r] * x2
                    + matrix[3 * GATES + r] * x3;
    }
    for (; j < n; j++, matrix += GATES)
        for (r = 0; r < GATES; r++)
            a[r] += matrix[r] * x[j];
}

/* One step of one layer: h and c become those of this step. */
static void layer_step(const real *matrix,
                       const real *bias,  //? bias
                       const real *peephole,  //? peepholes
                       const real *projection,  //? projection
                       const real *x, int inputs, real *restrict h, real *restrict c)
{
    real a[GATES];
    real m[UNITS];  //? projection
    int u;
    int p;  //? projection

    memcpy(a, bias, sizeof a);  //? bias
    memset(a, 0, sizeof a);  //? !bias
    add_product(a, matrix, x, inputs);
    add_product(a, matrix + (size_t)inputs * GATES, h, STATE);

    for (u = 0; u < UNITS; u++) {
        const real i = gate(a[u] + peephole[u] * c[u]);  //? peepholes
        const real f = gate(a[UNITS + u] + peephole[UNITS + u] * c[u]);  //? peepholes !coupled_gates
        const real i = gate(a[u]);  //? !peepholes
        const real f = gate(a[UNITS + u]);  //? !peepholes !coupled_gates
        const real f = 1.0${f} - i;  //? coupled_gates
        const real g = candidate(a[2 * UNITS + u]);
        const real k = between(f * c[u] + i * g, -CELL_CLIP, CELL_CLIP);  //? cell_clip
        const real k = f * c[u] + i * g;  //? !cell_clip
        const real o = gate(a[3 * UNITS + u] + peephole[2 * UNITS + u] * k);  //? peepholes
        const real o = gate(a[3 * UNITS + u]);  //? !peepholes
        c[u] = k;  //? !zoneout
        c[u] = k + ZONEOUT_C * (c[u] - k);  //? zoneout
        h[u] = o * cell(k);  //? !projection !zoneout
        h[u] = o * cell(k) + ZONEOUT_H * (h[u] - o * cell(k));  //? zoneout
        m[u] = o * cell(k);  //? projection
    }
//? projection {

    memset(h, 0, STATE * sizeof *h);
    for (u = 0; u < UNITS; u++)
        for (p = 0; p < STATE; p++)
            h[p] += projection[u * STATE + p] * m[u];
//? }
}

//? pool_mean {
/* The sum of h over the steps, and their number. */
static void pool_add(double *pool, const real *h)
{
    int j;

    for (j = 0; j < FEATURES; j++)
        pool[j] += (double)h[j];
    pool[FEATURES] += 1.0;
}

//? }
//? pool_max {
/* The largest values of h over the steps; once one is NaN, NaN. */
static void pool_add(double *pool, const real *h)
{
    int j;

    for (j = 0; j < FEATURES; j++)
        if (pool[FEATURES] < 1.0 || !(pool[j] != pool[j] || (double)h[j] <= pool[j]))
            pool[j] = (double)h[j];
    pool[FEATURES] = 1.0;
}

//? }
//? pool_attention {
/* Sums over the steps of e^(s - m) h and of e^(s - m), s = v.h the score of a step, m the largest so far. */
static void pool_add(double *pool, const real *h)
{
    double score = 0.0, old = 1.0, weight = 1.0;
    int j;

    for (j = 0; j < FEATURES; j++)
        score += (double)weights.attention[j] * (double)h[j];
    if (pool[FEATURES] > 0.0 && score <= pool[FEATURES + 1]) {
        weight = exp(score - pool[FEATURES + 1]);
    } else {
        old = pool[FEATURES] > 0.0 ? exp(pool[FEATURES + 1] - score) : 0.0;
        pool[FEATURES + 1] = score;
    }
    for (j = 0; j < FEATURES; j++)
        pool[j] = old * pool[j] + weight * (double)h[j];
    pool[FEATURES] = old * pool[FEATURES] + weight;
}

//? }
//? pooled {
/* What is read out: 0 before the first step. */
static void pool_take(const double *pool, real *features)
{
    int j;

    for (j = 0; j < FEATURES; j++)
        features[j] = (real)pool[j];  //? pool_max
        features[j] = (real)(pool[j] / (pool[FEATURES] > 0.0 ? pool[FEATURES] : 1.0));  //? !pool_max
}

//? }
/* y of the features of the last layer. */
static void read_out(const real *features, ${outer} *y)
{
    int j;
    int k;  //? readout
    double total = 0.0, largest;  //? y_softmax
    double value;  //? y_sorted
    int first;  //? y_sorted

//? readout {
    for (j = 0; j < OUTPUTS; j++) {
        ${sum} sum = ${double}weights.readout_bias[j];
        for (k = 0; k < FEATURES; k++)
            sum += ${double}weights.readout[j * FEATURES + k] * ${double}features[k];
        y[j] = sum;
    }
//? }
//? y_softmax {
    largest = y[0];
    for (j = 1; j < OUTPUTS; j++)
        largest = y[j] > largest ? y[j] : largest;
    for (j = 0; j < OUTPUTS; j++)
        total += y[j] = exp(y[j] - largest);
    for (j = 0; j < OUTPUTS; j++)
        y[j] /= total;
//? }
    for (j = 0; j < OUTPUTS; j++)  //? y_sigmoid
        y[j] = 1.0 / (1.0 + exp(-y[j]));  //? y_sigmoid
    for (j = 0; j < OUTPUTS; j++)  //? y_exponential
        y[j] = exp(y[j]);  //? y_exponential
//? y_sorted {
    for (first = 0; first < OUTPUTS; first += ${group}) /* quantiles do not cross */
        for (j = first + 1; j < first + ${group}; j++) {
            value = y[j];
            for (k = j; k > first && y[k - 1] > value; k--)
                y[k] = y[k - 1];
            y[k] = value;
        }
//? }
    for (j = 0; j < OUTPUTS; j++)  //? scaled
        y[j] = y[j] * weights.y_scale[j] + weights.y_mean[j];  //? scaled
    for (j = 0; j < OUTPUTS; j++)  //? !readout
        y[j] = features[j];  //? !readout
}

/* The states that a sequence begins with, of a layer and direction. */
static void begin(real *h, real *c, int row)
{
    (void)row;  //? !learn_state
    memset(h, 0, STATE * sizeof *h);  //? !learn_state
    memset(c, 0, UNITS * sizeof *c);  //? !learn_state
    memcpy(h, weights.h_0 + row * STATE, STATE * sizeof *h);  //? learn_state
    memcpy(c, weights.c_0 + row * UNITS, UNITS * sizeof *c);  //? learn_state
}

//? copied {
/* What the network reads in step t: ${merge} steps of x, 0 beyond the end. */  //? merged
/* What the network reads in step t. */  //? !merged
static void read_in(real *input, const ${outer} *x, size_t steps, size_t t)
{
    size_t j, k;

    for (k = 0; k < ${merge}; k++)
        for (j = 0; j < INPUTS; j++) {
            const size_t place = (t * ${merge} + k) * INPUTS + j;
            input[k * INPUTS + j] = t * ${merge} + k >= steps ? 0.0${f} :
                (real)((x[place] - weights.x_mean[j]) / weights.x_scale[j]);  //? scaled
                x[place];  //? !scaled
        }
}

//? }
/* ---- what is called from outside */

//? binary {
int ${name}_load(const char *path)
{
    /* "lstm-ext", a digest of what the model is, and 1.0 as this kind of machine has it. */
    static const unsigned char expected[24] = {${fingerprint}};
    const double one = 1.0;
    const unsigned char *byte = (const unsigned char *)&weights;
    unsigned char head[36];
    unsigned long low = 1, high = 0, sum = 0;
    size_t j, got;
    int more;
    FILE *file = fopen(path, "rb");

    if (!file)
        return 1;
    loaded = 0;
    got = fread(head, 1, sizeof head, file);
    if (got == sizeof head && (memcmp(head, expected, 24) || memcmp(head + 24, &one, 8))) {
        fclose(file);
        return 2;
    }
    got = got == sizeof head ? fread(&weights, sizeof weights, 1, file) : 0;
    more = getc(file) != EOF;
    fclose(file);
    if (got != 1 || more)
        return 3;
    for (j = 0; j < sizeof weights; j++) { /* Adler-32, of RFC 1950 */
        low = (low + byte[j]) % 65521;
        high = (high + low) % 65521;
    }
    for (j = 4; j > 0; j--)
        sum = sum << 8 | head[31 + j];
    if (sum != (high << 16 | low))
        return 4;
    loaded = 1;
    return 0;
}

//? }
unsigned long ${name}_flush_subnormals(void)
{
    unsigned long mode = 0;
#if defined(__GNUC__) && defined(__x86_64__)
    unsigned both;
    __asm__ volatile("stmxcsr %0" : "=m"(both));
    mode = both;
    both |= 0x8040u;
    __asm__ volatile("ldmxcsr %0" : : "m"(both));
#elif defined(__GNUC__) && defined(__aarch64__)
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"(mode | (1ul << 24)) : "memory");
#endif
    return mode;
}

void ${name}_restore_subnormals(unsigned long mode)
{
#if defined(__GNUC__) && defined(__x86_64__)
    unsigned raised, before = (unsigned)mode;
    __asm__ volatile("stmxcsr %0" : "=m"(raised));
    before |= raised & 0x3fu; /* exceptions that were raised meanwhile */
    __asm__ volatile("ldmxcsr %0" : : "m"(before));
#elif defined(__GNUC__) && defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(mode) : "memory");
#endif
    (void)mode;
}

size_t ${name}_work(size_t steps)
{
    return ${buffers} * ((steps + ${merge} - 1) / ${merge}) * FEATURES;
}

void ${name}_sequence(const ${outer} *x, size_t steps, real *work, ${outer} *y)
{
    const size_t count = (steps + ${merge} - 1) / ${merge};
    real h[STATE], c[UNITS];
    real input[READ];  //? copied
    real features[FEATURES];  //? !each_step
    double pool[FEATURES + 2];  //? pooled
    real *hidden = work;
    real *below = work + count * FEATURES, *swap;  //? layers
    size_t t;

//? binary {
    if (!loaded) {
        for (t = 0; t < OUTPUTS; t++)  //? !each_step
        for (t = 0; t < steps * OUTPUTS; t++)  //? each_step
            y[t] = NAN;
        return;
    }
//? }
${sequence}
//? pooled {
    memset(pool, 0, sizeof pool);
    for (t = 0; t < count; t++)
        pool_add(pool, hidden + t * FEATURES);
    pool_take(pool, features);
//? }
    read_out(features, y);  //? !each_step
    for (t = 0; t < count; t++)  //? each_step
        read_out(hidden + t * FEATURES, y + t * OUTPUTS);  //? each_step
}

//? streams {
void ${name}_reset(${name}_state *state)
{
    memset(state, 0, sizeof *state);
    memcpy(state->h, weights.h_0, sizeof state->h);  //? learn_state
    memcpy(state->c, weights.c_0, sizeof state->c);  //? learn_state
}

void ${name}_step(${name}_state *state, const ${outer} *x, ${outer} *y)
{
    int j;  //? step_counts
    real input[READ];  //? scaled !merged
    real features[FEATURES];  //? pooled
    ${name}_state trial;  //? merged

//? }
//? stream_binary {
    if (!loaded) {
        for (j = 0; j < OUTPUTS; j++)
            y[j] = NAN;
        return;
    }
//? }
//? streams {
    for (j = 0; j < INPUTS; j++)  //? scaled !merged
        input[j] = (real)((x[j] - weights.x_mean[j]) / weights.x_scale[j]);  //? scaled !merged
    for (j = 0; j < INPUTS; j++)  //? merged
        state->part[state->waiting * INPUTS + j] =  //? merged
            (real)((x[j] - weights.x_mean[j]) / weights.x_scale[j]);  //? merged scaled
            x[j];  //? merged !scaled
//? }
//? stream_merged {
    state->waiting++;
    if (state->waiting < ${merge}) {
        trial = *state; /* read with zeros for the steps that are to come, as the end of a sequence is; */
        state = &trial; /* and not kept */
    }
//? }
//? streams {
${layer_calls}
    pool_add(state->pool, state->h[${last}]);  //? pooled
    pool_take(state->pool, features);  //? pooled
    read_out(features, y);  //? pooled
    read_out(state->h[${last}], y);  //? !pooled
    if (state->waiting == ${merge}) {  //? merged
        memset(state->part, 0, sizeof state->part);  //? merged
        state->waiting = 0;  //? merged
    }  //? merged
}
//? }
"""

FORTRAN = """\
! ${title}
! Written by lstm_ext ${version}: Fortran 2003, an interface to ${source}.
!
!     if (${name}_load("${binary_name}" // c_null_char) /= 0) error stop  //? binary
!     call ${name}_sequence(x, steps, work, y)
!
!     type(${name}_state) :: state  //? streams
!     call ${name}_reset(state)  //? streams
!     call ${name}_step(state, x, y)  //? streams
module ${name}
    use, intrinsic :: iso_c_binding, only: c_int, c_char, c_null_char, c_size_t, ${kinds}  //? binary
    use, intrinsic :: iso_c_binding, only: c_int, c_size_t, ${kinds}  //? !binary
    implicit none

    integer(c_int), parameter :: ${name}_input_size = ${inputs}
    integer(c_int), parameter :: ${name}_output_size = ${outputs}

//? streams {
    ! All that is carried from step to step: hidden and cell states of each layer, and what belongs to them.
    type, bind(c) :: ${name}_state
        real(${kind}) :: h(${state}, ${layers})
        real(${kind}) :: c(${units}, ${layers})
        real(${kind}) :: part(${inputs}, ${merge})  //? merged
        integer(c_int) :: waiting  //? merged
        real(c_double) :: pool(${state} + 2)  //? pooled
    end type ${name}_state

//? }
    interface
//? binary {
        ! 0: the weights are there; other numbers: see ${header}.
        function ${name}_load(path) bind(c, name="${name}_load") result(code)
            import :: c_int, c_char
            character(kind=c_char), intent(in) :: path(*)
            integer(c_int) :: code
        end function ${name}_load

//? }
        ! How many numbers `work` has for so many steps.
        function ${name}_work(steps) bind(c, name="${name}_work") result(numbers)
            import :: c_size_t
            integer(c_size_t), value :: steps
            integer(c_size_t) :: numbers
        end function ${name}_work

        subroutine ${name}_sequence(x, steps, work, y) &
                bind(c, name="${name}_sequence")
            import :: ${sequence_kinds}
            import :: ${name}_input_size, ${name}_output_size
            real(${outer_kind}), intent(in) :: x(${name}_input_size, *)
            integer(c_size_t), value :: steps
            real(${kind}), intent(inout) :: work(*)
            real(${outer_kind}), intent(out) :: y(${name}_output_size)  //? !each_step
            real(${outer_kind}), intent(inout) :: y(${name}_output_size, *)  //? each_step
        end subroutine ${name}_sequence
//? streams {

        subroutine ${name}_reset(state) bind(c, name="${name}_reset")
            import :: ${name}_state
            type(${name}_state), intent(out) :: state
        end subroutine ${name}_reset

        subroutine ${name}_step(state, x, y) bind(c, name="${name}_step")
            import :: ${outer_kind}, ${name}_state
            import :: ${name}_input_size, ${name}_output_size
            type(${name}_state), intent(inout) :: state
            real(${outer_kind}), intent(in) :: x(${name}_input_size)
            real(${outer_kind}), intent(out) :: y(${name}_output_size)
        end subroutine ${name}_step
//? }
    end interface
end module ${name}
"""
