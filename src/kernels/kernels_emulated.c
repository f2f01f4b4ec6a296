/* Products in bfloat16 on tiles that are emulated in plain C: what kernels_amx.c computes, on any CPU, for tests. The
 * cell is the baseline's. */
#include "kernels.h"

#include "vec_baseline.h"
#include "tiles_emulated.h"
#include "split_plain.h"

#define REAL float
#define T s
#define REAL_IS_FLOAT 1
#define TILES 1
#define BFLOAT16_NAME "emulated"
#define BFLOAT16_TABLE lstm_kernels_emulated
#include "vectors.h"
#include "step_cell.h"

#define PIECES 1
#include "bfloat16_impl.h"
#define PIECES 2
#include "bfloat16_impl.h"
#define PIECES 3
#include "bfloat16_impl.h"
