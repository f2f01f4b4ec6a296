/* The contract between the loops over time and the arithmetic of one time step.
 *
 * Plain C, nothing of Python. Every function here is given dense blocks of rows: what a caller's
 * array looks like (strides, order of sequences, lengths, direction) is the driver's business.
 * Nothing allocates, nothing fails, nothing keeps state.
 *
 * Sizes: rows = sequences (or sequence-steps) in the block; H = hidden units; gate order i, f, g, o.
 */
#ifndef LSTM_EXT_KERNELS_H
#define LSTM_EXT_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "../sizes.h"

/* The activations of which those with names are made; alpha and beta are their numbers. */
enum {
    LSTM_ACT_TANH = 0,
    LSTM_ACT_IDENTITY = 1,
    LSTM_ACT_SIGMOID,
    LSTM_ACT_AFFINE,
    LSTM_ACT_SCALED_TANH,
    LSTM_ACT_CLIPPED,
    LSTM_ACT_RAMP,
    LSTM_ACT_LEAKY,
    LSTM_ACT_THRESHOLDED,
    LSTM_ACT_ELU,
    LSTM_ACT_SOFTSIGN,
    LSTM_ACT_SOFTPLUS,
    LSTM_ACT_EXPONENTIAL,
    LSTM_ACT_SILU,
    LSTM_ACT_GELU,
    LSTM_ACT_MISH,
    LSTM_ACT_HARD_SILU
};

typedef struct lstm_activation {
    int kind;
    double alpha, beta;
} lstm_activation;

/* What the pointwise arithmetic of a step is. Read by the cell functions alone: the fused ones look at
 * cell_activation, the general ones at the rest. */
typedef struct lstm_cell {
    int cell_activation;                     /* h = o * act(c): tanh or identity */
    lstm_activation gate, candidate, output; /* sigma, tau, act */
    int standard;                            /* they are sigmoid, tanh, tanh */
    int coupled;                             /* f = 1 - i */
    int static_input_gate;                   /* of pre_i only the bias counts */
    int layer_norm;
    int gate_clipped, cell_clipped;
    double gate_clip, cell_clip;
} lstm_cell;

/* How a product may go about it; {0} asks for nothing. Passed by value. */
typedef struct lstm_hints {
    int from_end; /* walk the panels from the last to the first: the bits are the same. Calls that take
                   * turns find in cache the panels that the call before read last */
    int ordered;  /* one row gives the bits that it has among others, each sum made in the order of k */
    int stream;   /* `gates` is read much later: it may go past the caches */
} lstm_hints;

/* The arrays of a general step, of the table's dtype, dense, gates in plain order. NULL: zeros where it
 * would be read, not wanted where it would be filled or added to. A second struct of this kind holds
 * the tangents. */
typedef struct lstm_step {
    const void *pre_x, *pre_h;   /* (rows, 4H) W x_t and U h_prev */
    const void *bias;            /* (4H,), or with bias_stride 4H a row for each row */
    ptrdiff_t bias_stride;
    const void *c_prev, *h_prev; /* (rows, H); h_prev is read by zoneout alone */
    const void *zone_c, *zone_h; /* (rows, H) how much of the old state stays */
    const void *peephole;        /* (3H,) i | f | o */
    const void *norm_ih, *norm_hh, *norm_c, *norm_c_bias; /* (4H,), (4H,), (H,), (H,) */
    void *scratch;               /* 7H, with layer_norm */
    /* forward fills these; backward fills h alone, with m */
    void *c, *h;                 /* (rows, H); c may be c_prev */
    void *pre;                   /* (rows, 4H) pre_x + pre_h + bias; not with layer_norm */
    void *gates;                 /* (rows, 4H) activated */
    /* backward: gradients */
    const void *dh;              /* (rows, H) of h_t */
    void *dc;                    /* (rows, H) of c_t, replaced by that of c_prev */
    void *dpre_x, *dpre_h;       /* (rows, 4H), filled; dpre_h with layer_norm alone, else it is dpre_x */
    void *dh_prev;               /* (rows, H), filled with zoneout: what reaches h_prev past the gates */
    void *dbias, *dpeephole, *dnorm_ih, *dnorm_hh, *dnorm_c, *dnorm_c_bias; /* added to; dbias by bias_stride */
} lstm_step;

/* The contract stands once, in kernels_contract.h, and is read once per dtype. */
#define REAL float
#define LSTM_KERNELS lstm_kernels_s
#include "kernels_contract.h"
#undef REAL
#undef LSTM_KERNELS

#define REAL double
#define LSTM_KERNELS lstm_kernels_d
#include "kernels_contract.h"
#undef REAL
#undef LSTM_KERNELS

/* caches.c */

/* Bytes of the data caches, l3 may be 0; and from how many bytes on an array that is not read soon goes past them. */
typedef struct lstm_caches {
    ptrdiff_t l1d, l2, l3, stream;
} lstm_caches;

/* What the operating system says, else the CPU, else 32 KB and 1 MB. The kernels take from it what is far; it changes
 * no bits. To be called once, before any kernel. */
lstm_caches lstm_read_caches(void);

/* Which bfloat16 products this compiler can build. */
#if defined(__x86_64__) && ((defined(__clang__) && __clang_major__ >= 12) || (!defined(__clang__) && __GNUC__ >= 11))
#define LSTM_HAS_AVX512_BF16 1
#else
#define LSTM_HAS_AVX512_BF16 0
#endif
#if LSTM_HAS_AVX512_BF16 && defined(__linux__)
#define LSTM_HAS_AMX 1
#else
#define LSTM_HAS_AMX 0
#endif

/* dispatch.c */

/* NULL when this build or this CPU lacks `name` ("avx512", "avx2", "baseline"). */
const lstm_kernels_s *lstm_kernels_find_s(const char *name);
const lstm_kernels_d *lstm_kernels_find_d(const char *name);

/* A table whose products alone are filled, in bfloat16 of 1, 2 or 3 pieces: "amx", "avx512_bf16", "emulated". NULL
 * when this build or this CPU lacks it. The first question for "amx" asks the operating system for permission and
 * tests the tiles; after a refusal the answer stays NULL. Not for two threads at once. */
const lstm_kernels_s *lstm_bfloat16_find(const char *name, int pieces);

/* table = the products of one and all else of the other, whose cell has the same bits in forward and backward: the
 * baseline's for "emulated", that of "avx512" for the others. */
static inline void lstm_bfloat16_table(const lstm_kernels_s *products, const lstm_kernels_s *rest, lstm_kernels_s *table) {
    *table = *products;
    table->column_sums = rest->column_sums;
    table->cell_forward = rest->cell_forward;
    table->cell_backward = rest->cell_backward;
    table->cell_output = rest->cell_output;
    table->general_forward = rest->general_forward;
    table->general_backward = rest->general_backward;
    table->sigmoid = rest->sigmoid;
    table->tanh = rest->tanh;
}

#endif
