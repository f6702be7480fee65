// Gradients of the weights of layers that are trained themselves; see cuda_products.h.
#pragma once

// sums (width) of x (rows, width); with `other` (rows, width), of x * (other - mean) * scale with the rows' means and
// scales. A block has 32 columns and SUM_GROUPS shares of the rows, so that the order of a sum is always the same.
const int SUM_GROUPS = 32;
static __global__ void column_sums_kernel(const real* x, const real* other, const real* means, const real* scales,
                                          real* sums, int64_t rows, int width) {
    __shared__ real shares[SUM_GROUPS][33];
    const int lane = threadIdx.x % 32, group = threadIdx.x / 32, column = blockIdx.x * 32 + lane;
    real sum = 0;
    if (column < width)
        for (int64_t row = group; row < rows; row += SUM_GROUPS) {
            const int64_t at = row * width + column;
            sum += other ? x[at] * ((other[at] - means[row]) * scales[row]) : x[at];
        }
    shares[group][lane] = sum;
    __syncthreads();
    if (group > 0 || column >= width) return;
    sum = 0;
    for (int g = 0; g < SUM_GROUPS; g++) sum += shares[g][lane];
    sums[column] = sum;
}

static inline void column_sums(const real* x, const real* other, const real* means, const real* scales, real* sums,
                               int64_t rows, int64_t width) {
    column_sums_kernel<<<blocks_of(width, 32), 32 * SUM_GROUPS>>>(x, other, means, scales, sums, rows, width);
}

// Products of two arrays that are not stored in 16 bits do not become such products in bf16 and fp16.
static inline int product_precision(int precision) { return precision == TF32 ? TF32 : FP32; }

// dweight (in, out) = x (rows, in) transposed @ dy (rows, out), dbias (out) = the sums of dy's columns
static inline void linear_weights_backward(const real* x, const real* dy, real* dweight, real* dbias, int64_t rows,
                                           int64_t in, int64_t out, int precision) {
    product(true, false, in, out, rows, 1.f, x, in, dy, out, 0.f, dweight, out, product_precision(precision));
    column_sums(dy, nullptr, nullptr, nullptr, dbias, rows, out);
}

static inline void layer_norm_weights_backward(const real* dy, const real* x, const real* means, const real* scales,
                                               real* dweight, real* dbias, int64_t rows, int64_t width) {
    column_sums(dy, x, means, scales, dweight, rows, width);
    column_sums(dy, nullptr, nullptr, nullptr, dbias, rows, width);
}

// table (vocabulary, width) += slopes (rows, vocabulary) transposed @ x (rows, width); or = where `begins`
static inline void add_slopes(const real* slopes, const real* x, real* table, int64_t rows, int64_t vocabulary,
                              int64_t width, bool begins, int precision) {
    product(true, false, vocabulary, width, rows, 1.f, slopes, vocabulary, x, width, begins ? 0.f : 1.f, table, width,
            product_precision(precision));
}

static __global__ void scale_rows_kernel(const real* factors, real* x, int64_t count, int64_t width) {
    const int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (i < count) x[i] *= factors[i / width];
}

static inline void scale_rows(const real* factors, real* x, int64_t rows, int64_t width) {
    scale_rows_kernel<<<blocks_of(rows * width, 256), 256>>>(factors, x, rows * width, width);
}
