"""The text of what `export_casadi` and `export_fmu` write around the source of `export_c`.

As in `_c_templates`: ``//? word`` is a condition, ``${name}`` is replaced.
"""

# Slopes of activations at x, where `value` is the function there; 0 at a kink, as in the kernels.
SLOPES = {
    "sigmoid": "value * (1.0${f} - value)",
    "tanh": "1.0${f} - value * value",
    "identity": "1.0${f}",
    "linear": "1.0${f}",
    "affine": "${alpha}",
    "scaled_tanh": "${beta} * (${alpha} - value * value / ${alpha})",
    "hard_sigmoid": "value > 0.0${f} && value < 1.0${f} ? ${alpha} : 0.0${f}",
    "relu": "x > 0.0${f} ? 1.0${f} : 0.0${f}",
    "relu6": "value > 0.0${f} && value < 6.0${f} ? 1.0${f} : 0.0${f}",
    "hard_tanh": "value > -1.0${f} && value < 1.0${f} ? 1.0${f} : 0.0${f}",
    "leaky_relu": "x > 0.0${f} ? 1.0${f} : ${alpha}",
    "thresholded_relu": "x <= ${alpha} ? 0.0${f} : 1.0${f}",
    "elu": "x > 0.0${f} ? 1.0${f} : value + ${alpha}",
    "selu": "x > 0.0${f} ? ${beta} : value + ${alpha} * ${beta}",
    "softsign": "(1.0${f} - fabs${f}(value)) * (1.0${f} - fabs${f}(value))",
    "softplus": "1.0${f} / (1.0${f} + exp${f}(-x))",
    "exponential": "value",
    "silu": "(1.0${f} + value * exp${f}(-x)) / (1.0${f} + exp${f}(-x))",
    "swish": "(1.0${f} + value * exp${f}(-x)) / (1.0${f} + exp${f}(-x))",
    "gelu": "0.5${f} * erfc${f}(-x * ${root_half}) + x * exp${f}(-0.5${f} * x * x) * ${normal}",
    "mish": "mish_slope(x)",
    "hard_silu": "x <= -3.0${f} ? 0.0${f} : x >= 3.0${f} ? 1.0${f} : x / 3.0${f} + 0.5${f}",
}

TANGENT = """\
/* ${title}
 * Written by lstm_ext ${version}: the derivative of ${name}_step along a direction, for ${source}. */
#include "${source}"

//? mish {
static real mish_slope(real x)
{
    const real t = tanh${f}(x > 0.0${f} ? x + log1p${f}(exp${f}(-x)) : log1p${f}(exp${f}(x)));
    return t + x * (1.0${f} - t * t) / (1.0${f} + exp${f}(-x));
}

//? }
static real gate_slope(real x)
{
    const real value = gate(x);
    if (x < -GATE_CLIP || x > GATE_CLIP)  //? gate_clip
        return 0.0${f};  //? gate_clip
    (void)value;
    return ${gate_slope};
}

static real candidate_slope(real x)
{
    const real value = candidate(x);
    if (x < -GATE_CLIP || x > GATE_CLIP)  //? gate_clip
        return 0.0${f};  //? gate_clip
    (void)value;
    return ${candidate_slope};
}

static real cell_slope(real x)
{
    const real value = cell(x);
    (void)value;
    return ${cell_slope};
}

/* One step of one layer, and its derivative along (dx, dh, dc): h, c, dh and dc become those of this step. */
static void layer_tangent(const real *matrix,
                          const real *bias,  //? bias
                          const real *peephole,  //? peepholes
                          const real *projection,  //? projection
                          const real *x, const real *dx, int inputs, real *restrict h, real *restrict c,
                          real *restrict dh, real *restrict dc)
{
    real a[GATES], da[GATES];
    real m[UNITS], dm[UNITS];
    int u;
    int p;  //? projection

    memcpy(a, bias, sizeof a);  //? bias
    memset(a, 0, sizeof a);  //? !bias
    memset(da, 0, sizeof da);
    add_product(a, matrix, x, inputs);
    add_product(a, matrix + (size_t)inputs * GATES, h, STATE);
    add_product(da, matrix, dx, inputs);
    add_product(da, matrix + (size_t)inputs * GATES, dh, STATE);

    for (u = 0; u < UNITS; u++) {
        real a_i = a[u], a_f = a[UNITS + u], a_g = a[2 * UNITS + u], a_o = a[3 * UNITS + u];
        real da_i = da[u], da_f = da[UNITS + u], da_g = da[2 * UNITS + u], da_o = da[3 * UNITS + u];
        real i, f, g, k, o, di, df, dg, dk, d_o;

        a_i += peephole[u] * c[u];  //? peepholes
        da_i += peephole[u] * dc[u];  //? peepholes
        a_f += peephole[UNITS + u] * c[u];  //? peepholes
        da_f += peephole[UNITS + u] * dc[u];  //? peepholes
        i = gate(a_i);
        di = gate_slope(a_i) * da_i;
        f = gate(a_f);
        df = gate_slope(a_f) * da_f;
        f = 1.0${f} - i;  //? coupled_gates
        df = -di;  //? coupled_gates
        g = candidate(a_g);
        dg = candidate_slope(a_g) * da_g;
        k = f * c[u] + i * g;
        dk = df * c[u] + f * dc[u] + di * g + i * dg;
        dk = k < -CELL_CLIP || k > CELL_CLIP ? 0.0${f} : dk;  //? cell_clip
        k = between(k, -CELL_CLIP, CELL_CLIP);  //? cell_clip
        a_o += peephole[2 * UNITS + u] * k;  //? peepholes
        da_o += peephole[2 * UNITS + u] * dk;  //? peepholes
        o = gate(a_o);
        d_o = gate_slope(a_o) * da_o;
        m[u] = o * cell(k);
        dm[u] = d_o * cell(k) + o * cell_slope(k) * dk;
        c[u] = k;  //? !zoneout
        dc[u] = dk;  //? !zoneout
        c[u] = k + ZONEOUT_C * (c[u] - k);  //? zoneout
        dc[u] = dk + ZONEOUT_C * (dc[u] - dk);  //? zoneout
        h[u] = m[u];  //? !projection !zoneout
        dh[u] = dm[u];  //? !projection !zoneout
        h[u] = m[u] + ZONEOUT_H * (h[u] - m[u]);  //? zoneout
        dh[u] = dm[u] + ZONEOUT_H * (dh[u] - dm[u]);  //? zoneout
    }
//? projection {

    memset(h, 0, STATE * sizeof *h);
    memset(dh, 0, STATE * sizeof *dh);
    for (u = 0; u < UNITS; u++)
        for (p = 0; p < STATE; p++) {
            h[p] += projection[u * STATE + p] * m[u];
            dh[p] += projection[u * STATE + p] * dm[u];
        }
//? }
}

/* The step from `state` with x, and the derivative of its results along (dstate, dx); `state` and `dstate`
 * become those after the step. */
static void ${name}_tangent(${name}_state *state, ${name}_state *dstate, const ${outer} *x,
                            const ${outer} *dx, ${outer} *y, ${outer} *dy)
{
    ${name}_state before = *state;
    real dscaled[INPUTS];  //? scaled
    real scaled[INPUTS];  //? scaled
    int j;
    int k;  //? readout
    double total = 0.0;  //? y_softmax

    ${name}_step(state, x, y);
    for (j = 0; j < INPUTS; j++) {  //? scaled
        scaled[j] = (real)((x[j] - weights.x_mean[j]) / weights.x_scale[j]);  //? scaled
        dscaled[j] = (real)(dx[j] / weights.x_scale[j]);  //? scaled
    }  //? scaled
${tangent_calls}
//? readout {
    for (j = 0; j < OUTPUTS; j++) {
        ${sum} sum = 0;
        for (k = 0; k < STATE; k++)
            sum += ${double}weights.readout[j * STATE + k] * ${double}dstate->h[${last}][k];
        dy[j] = sum;
    }
//? }
//? y_softmax {
    for (j = 0; j < OUTPUTS; j++)
        total += (y[j] - weights.y_mean[j]) / weights.y_scale[j] * dy[j];
    for (j = 0; j < OUTPUTS; j++)
        dy[j] = (y[j] - weights.y_mean[j]) / weights.y_scale[j] * (dy[j] - total);
//? }
//? y_sigmoid {
    for (j = 0; j < OUTPUTS; j++) {
        const double value = (y[j] - weights.y_mean[j]) / weights.y_scale[j];
        dy[j] *= value * (1.0 - value);
    }
//? }
    for (j = 0; j < OUTPUTS; j++)  //? y_exponential
        dy[j] *= (y[j] - weights.y_mean[j]) / weights.y_scale[j];  //? y_exponential
    for (j = 0; j < OUTPUTS; j++)  //? scaled
        dy[j] *= weights.y_scale[j];  //? scaled
    for (j = 0; j < OUTPUTS; j++)  //? !readout
        dy[j] = dstate->h[${last}][j];  //? !readout
}
"""

CASADI = """\

/* ---- for casadi.external("${name}", library): (x, h, c) -> (y, h, c), and its Jacobian */

#ifndef casadi_real
#define casadi_real double
#endif
#ifndef casadi_int
#define casadi_int long long int
#endif
#ifdef _WIN32
#define EXPORTED __declspec(dllexport)
#else
#define EXPORTED
#endif

enum { LAYERS = ${layers}, H_SIZE = LAYERS * STATE, C_SIZE = LAYERS * UNITS };

static const casadi_int in_sizes[3] = {INPUTS, H_SIZE, C_SIZE}, out_sizes[3] = {OUTPUTS, H_SIZE, C_SIZE};
static const casadi_int in_patterns[3][3] = {{INPUTS, 1, 1}, {H_SIZE, 1, 1}, {C_SIZE, 1, 1}}; /* 1: dense */
static const casadi_int out_patterns[3][3] = {{OUTPUTS, 1, 1}, {H_SIZE, 1, 1}, {C_SIZE, 1, 1}};

static void taken(const casadi_real **arg, ${name}_state *state, ${outer} *x)
{
    int j, k;

    for (j = 0; j < INPUTS; j++)
        x[j] = arg[0] ? (${outer})arg[0][j] : 0;
    for (k = 0; k < LAYERS; k++) {
        for (j = 0; j < STATE; j++)
            state->h[k][j] = arg[1] ? (real)arg[1][k * STATE + j] : 0;
        for (j = 0; j < UNITS; j++)
            state->c[k][j] = arg[2] ? (real)arg[2][k * UNITS + j] : 0;
    }
}

static void given(casadi_real **res, const ${name}_state *state, const ${outer} *y, casadi_int column)
{
    int j, k;

    for (j = 0; res[0] && j < OUTPUTS; j++)
        res[0][column * OUTPUTS + j] = y[j];
    for (k = 0; k < LAYERS; k++) {
        for (j = 0; res[1] && j < STATE; j++)
            res[1][column * H_SIZE + k * STATE + j] = state->h[k][j];
        for (j = 0; res[2] && j < UNITS; j++)
            res[2][column * C_SIZE + k * UNITS + j] = state->c[k][j];
    }
}

EXPORTED casadi_int ${name}_n_in(void) { return 3; }
EXPORTED casadi_int ${name}_n_out(void) { return 3; }
EXPORTED casadi_int jac_${name}_n_in(void) { return 6; }
EXPORTED casadi_int jac_${name}_n_out(void) { return 9; }

EXPORTED const char *${name}_name_in(casadi_int i)
{
    static const char *const names[3] = {"x", "h", "c"};
    return i >= 0 && i < 3 ? names[i] : 0;
}

EXPORTED const char *${name}_name_out(casadi_int i)
{
    static const char *const names[3] = {"y", "h_next", "c_next"};
    return i >= 0 && i < 3 ? names[i] : 0;
}

EXPORTED const casadi_int *${name}_sparsity_in(casadi_int i) { return i >= 0 && i < 3 ? in_patterns[i] : 0; }
EXPORTED const casadi_int *${name}_sparsity_out(casadi_int i)
{
    return i >= 0 && i < 3 ? out_patterns[i] : 0;
}

EXPORTED const casadi_int *jac_${name}_sparsity_in(casadi_int i)
{
    return i < 0 || i > 5 ? 0 : i < 3 ? in_patterns[i] : out_patterns[i - 3];
}

EXPORTED const casadi_int *jac_${name}_sparsity_out(casadi_int i)
{
    static const casadi_int patterns[9][3] = {
        {OUTPUTS, INPUTS, 1}, {OUTPUTS, H_SIZE, 1}, {OUTPUTS, C_SIZE, 1},
        {H_SIZE, INPUTS, 1}, {H_SIZE, H_SIZE, 1}, {H_SIZE, C_SIZE, 1},
        {C_SIZE, INPUTS, 1}, {C_SIZE, H_SIZE, 1}, {C_SIZE, C_SIZE, 1},
    };
    return i >= 0 && i < 9 ? patterns[i] : 0;
}

EXPORTED int ${name}_work(casadi_int *arg, casadi_int *res, casadi_int *iw, casadi_int *w)
{
    if (arg) *arg = 3;
    if (res) *res = 3;
    if (iw) *iw = 0;
    if (w) *w = 0;
    return 0;
}

EXPORTED int jac_${name}_work(casadi_int *arg, casadi_int *res, casadi_int *iw, casadi_int *w)
{
    if (arg) *arg = 6;
    if (res) *res = 9;
    if (iw) *iw = 0;
    if (w) *w = 0;
    return 0;
}

EXPORTED int ${name}(const casadi_real **arg, casadi_real **res, casadi_int *iw, casadi_real *w, int mem)
{
    ${name}_state state;
    ${outer} x[INPUTS], y[OUTPUTS];

    (void)iw, (void)w, (void)mem, (void)in_sizes, (void)out_sizes;
    taken(arg, &state, x);
    ${name}_step(&state, x, y);
    given(res, &state, y, 0);
    return 0;
}

/* One column of the blocks for each input: the derivative along it. */
EXPORTED int jac_${name}(const casadi_real **arg, casadi_real **res, casadi_int *iw, casadi_real *w, int mem)
{
    int j, input, column;

    (void)iw, (void)w, (void)mem;
    for (input = 0; input < 3; input++) {
        casadi_real *blocks[3];
        for (j = 0; j < 3; j++)
            blocks[j] = res[3 * j + input];
        if (!blocks[0] && !blocks[1] && !blocks[2])
            continue;
        for (column = 0; column < in_sizes[input]; column++) {
            ${name}_state state, dstate;
            ${outer} x[INPUTS], dx[INPUTS], y[OUTPUTS], dy[OUTPUTS];

            taken(arg, &state, x);
            memset(&dstate, 0, sizeof dstate);
            memset(dx, 0, sizeof dx);
            if (input == 0)
                dx[column] = 1;
            else if (input == 1)
                dstate.h[column / STATE][column % STATE] = 1;
            else
                dstate.c[column / UNITS][column % UNITS] = 1;
            ${name}_tangent(&state, &dstate, x, dx, y, dy);
            given(blocks, &dstate, dy, column);
        }
    }
    return 0;
}
"""

FMI = """\

/* ---- FMI 3.0, Co-Simulation: modelica.association's Functional Mock-up Interface */

#include <stdbool.h>
#include <stdlib.h>

#ifdef _WIN32
#define EXPORTED __declspec(dllexport)
#else
#define EXPORTED
#endif

typedef enum { OK, WARNING, DISCARD, ERROR, FATAL } status;
typedef unsigned int reference;

/* Value references: 0 is time, then the inputs, then the outputs. */
enum { FIRST_INPUT = 1, FIRST_OUTPUT = FIRST_INPUT + INPUTS, VARIABLES = FIRST_OUTPUT + OUTPUTS };

#define STEP_SIZE ${step_size}

/* x_last and before are those of the last step, for its derivatives. */
typedef struct {
    ${name}_state state, before;
    double time;
    ${outer} x[INPUTS], x_last[INPUTS], y[OUTPUTS];
} instance;

static void begin_unit(instance *own)
{
    memset(own, 0, sizeof *own);
    ${name}_reset(&own->state);
    own->before = own->state;
}

EXPORTED const char *fmi3GetVersion(void) { return "3.0"; }

EXPORTED status fmi3SetDebugLogging(void *own, bool on, size_t n, const char *const categories[])
{
    (void)own, (void)on, (void)n, (void)categories;
    return OK;
}

EXPORTED void *fmi3InstantiateCoSimulation(
    const char *name, const char *token, const char *resources, bool visible, bool logging, bool event_mode,
    bool early_return, const reference *intermediate, size_t n_intermediate, void *environment,
    void (*message)(void *, status, const char *, const char *), void (*update)(void))
{
    instance *own;

    (void)name, (void)resources, (void)visible, (void)logging, (void)early_return, (void)intermediate;
    (void)n_intermediate, (void)environment, (void)message, (void)update;
    if (event_mode || !token || strcmp(token, "${token}"))
        return NULL;
    own = malloc(sizeof *own);
    if (own)
        begin_unit(own);
    return own;
}

EXPORTED void *fmi3InstantiateModelExchange(
    const char *name, const char *token, const char *resources, bool visible, bool logging, void *environment,
    void *message)
{
    (void)name, (void)token, (void)resources, (void)visible, (void)logging, (void)environment, (void)message;
    return NULL; /* a step in time is no differential equation */
}

EXPORTED void *fmi3InstantiateScheduledExecution(
    const char *name, const char *token, const char *resources, bool visible, bool logging, void *environment,
    void *message, void *clock, void *lock, void *unlock)
{
    (void)name, (void)token, (void)resources, (void)visible, (void)logging, (void)environment, (void)message;
    (void)clock, (void)lock, (void)unlock;
    return NULL;
}

EXPORTED void fmi3FreeInstance(void *own) { free(own); }

EXPORTED status fmi3EnterInitializationMode(
    void *own, bool tolerance_defined, double tolerance, double start, bool stop_defined, double stop)
{
    (void)tolerance_defined, (void)tolerance, (void)stop_defined, (void)stop;
    ((instance *)own)->time = start;
    return OK;
}

EXPORTED status fmi3ExitInitializationMode(void *own) { (void)own; return OK; }
EXPORTED status fmi3EnterEventMode(void *own) { (void)own; return ERROR; }
EXPORTED status fmi3EnterStepMode(void *own) { (void)own; return OK; }
EXPORTED status fmi3EnterConfigurationMode(void *own) { (void)own; return ERROR; }
EXPORTED status fmi3ExitConfigurationMode(void *own) { (void)own; return ERROR; }
EXPORTED status fmi3Terminate(void *own) { (void)own; return OK; }

EXPORTED status fmi3Reset(void *own)
{
    begin_unit(own);
    return OK;
}

EXPORTED status fmi3GetFloat64(
    void *given, const reference *references, size_t n, double *values, size_t n_values)
{
    const instance *own = given;
    size_t k;

    for (k = 0; k < n && n_values == n; k++) {
        const reference one = references[k];
        if (one >= VARIABLES)
            return ERROR;
        values[k] = one == 0 ? own->time
                    : one < FIRST_OUTPUT ? own->x[one - FIRST_INPUT] : own->y[one - FIRST_OUTPUT];
    }
    return n_values == n ? OK : ERROR;
}

EXPORTED status fmi3SetFloat64(
    void *given, const reference *references, size_t n, const double *values, size_t n_values)
{
    instance *own = given;
    size_t k;

    for (k = 0; k < n && n_values == n; k++)
        if (references[k] < FIRST_INPUT || references[k] >= FIRST_OUTPUT)
            return ERROR;
    for (k = 0; k < n && n_values == n; k++)
        own->x[references[k] - FIRST_INPUT] = (${outer})values[k];
    return n_values == n ? OK : ERROR;
}

/* As many steps as fit; the inputs are held. */
EXPORTED status fmi3DoStep(void *given, double now, double step, bool no_set_before, bool *event_needed,
                           bool *terminate, bool *early, double *last)
{
    instance *own = given;
    const double steps = floor(step / STEP_SIZE + 0.5);
    double k;

    (void)no_set_before;
    *event_needed = *terminate = *early = false;
    if (!(steps >= 1.0 && fabs(steps * STEP_SIZE - step) <= 1e-9 * STEP_SIZE * steps)) {
        *last = own->time;
        return ERROR; /* the communication step is no multiple of the model's */
    }
    for (k = 0.0; k < steps; k += 1.0) {
        own->before = own->state;
        memcpy(own->x_last, own->x, sizeof own->x);
        ${name}_step(&own->state, own->x, own->y);
    }
    *last = own->time = now + step;
    return OK;
}

/* Of the outputs of the last step by its inputs, along the seed. */
EXPORTED status fmi3GetDirectionalDerivative(
    void *given, const reference *unknowns, size_t n_unknowns, const reference *knowns, size_t n_knowns,
    const double *seed, size_t n_seed, double *sensitivity, size_t n_sensitivity)
{
    const instance *own = given;
    ${name}_state state = own->before, dstate;
    ${outer} dx[INPUTS], y[OUTPUTS], dy[OUTPUTS];
    size_t k;

    if (n_seed != n_knowns || n_sensitivity != n_unknowns)
        return ERROR;
    memset(&dstate, 0, sizeof dstate);
    memset(dx, 0, sizeof dx);
    for (k = 0; k < n_knowns; k++) {
        if (knowns[k] < FIRST_INPUT || knowns[k] >= FIRST_OUTPUT)
            return ERROR;
        dx[knowns[k] - FIRST_INPUT] += (${outer})seed[k];
    }
    ${name}_tangent(&state, &dstate, own->x_last, dx, y, dy);
    for (k = 0; k < n_unknowns; k++) {
        if (unknowns[k] < FIRST_OUTPUT || unknowns[k] >= VARIABLES)
            return ERROR;
        sensitivity[k] = dy[unknowns[k] - FIRST_OUTPUT];
    }
    return OK;
}

EXPORTED status fmi3GetFMUState(void *given, void **kept)
{
    if (!*kept)
        *kept = malloc(sizeof(instance));
    if (!*kept)
        return ERROR;
    memcpy(*kept, given, sizeof(instance));
    return OK;
}

EXPORTED status fmi3SetFMUState(void *given, void *kept)
{
    memcpy(given, kept, sizeof(instance));
    return OK;
}

EXPORTED status fmi3FreeFMUState(void *given, void **kept)
{
    (void)given;
    free(*kept);
    *kept = NULL;
    return OK;
}

/* Functions for what this unit does not have: other types, clocks, events, continuous states. */
#define NOT_HERE(function) EXPORTED status function(void) { return ERROR; }
${not_here}
"""

# Functions of the standard that the unit has, to say that it does not do what they are for.
NOT_HERE = (
    *(f"fmi3{verb}{kind}" for verb in ("Get", "Set") for kind in (
        "Float32", "Int8", "UInt8", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Boolean",
        "String", "Binary", "Clock",
    )),
    "fmi3GetNumberOfVariableDependencies", "fmi3GetVariableDependencies", "fmi3SerializedFMUStateSize",
    "fmi3SerializeFMUState", "fmi3DeserializeFMUState", "fmi3GetAdjointDerivative", "fmi3GetIntervalDecimal",
    "fmi3GetIntervalFraction", "fmi3GetShiftDecimal", "fmi3GetShiftFraction", "fmi3SetIntervalDecimal",
    "fmi3SetIntervalFraction", "fmi3SetShiftDecimal", "fmi3SetShiftFraction", "fmi3EvaluateDiscreteStates",
    "fmi3UpdateDiscreteStates", "fmi3EnterContinuousTimeMode", "fmi3CompletedIntegratorStep", "fmi3SetTime",
    "fmi3SetContinuousStates", "fmi3GetContinuousStateDerivatives", "fmi3GetEventIndicators",
    "fmi3GetContinuousStates", "fmi3GetNominalsOfContinuousStates", "fmi3GetNumberOfEventIndicators",
    "fmi3GetNumberOfContinuousStates", "fmi3GetOutputDerivatives", "fmi3ActivateModelPartition",
)
