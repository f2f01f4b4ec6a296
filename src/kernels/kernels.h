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

/* What the pointwise arithmetic of a step is. Read by the cell functions alone. */
typedef struct lstm_cell {
    int cell_activation; /* h = o * act(c) */
} lstm_cell;

enum { LSTM_ACT_TANH = 0, LSTM_ACT_IDENTITY = 1 };

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

/* dispatch.c */

/* NULL when this build or this CPU lacks `name` ("avx512", "avx2", "baseline"). */
const lstm_kernels_s *lstm_kernels_find_s(const char *name);
const lstm_kernels_d *lstm_kernels_find_d(const char *name);

#endif
