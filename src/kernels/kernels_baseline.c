/* The kernels for any CPU. */
#include "kernels.h"

#include "vec_baseline.h"
#define KERNEL_NAME "baseline"
#define KERNEL_TABLE lstm_kernels_baseline

#define REAL float
#define T s
#define REAL_IS_FLOAT 1
#include "kernels_impl.h"

#define REAL double
#define T d
#define REAL_IS_FLOAT 0
#include "kernels_impl.h"
