// Gradients of the weights of layers that are trained themselves; see cpu.h.
#pragma once

// sums (width) of x (rows, width), times `factor` (rows, width) with means and scales (rows) taken off where given:
// sum over rows of x * (other - mean) * scale
static inline void column_sums(const real* x, const real* other, const real* means, const real* scales, real* sums,
                               int64_t rows, int64_t width) {
    const int64_t chunk = 64;
    #pragma omp parallel for
    for (int64_t begin = 0; begin < width; begin += chunk) {
        const int64_t columns = std::min(chunk, width - begin);
        double totals[chunk] = {};
        for (int64_t row = 0; row < rows; row++) {
            const real* from = x + row * width + begin;
            if (other) {
                const real* value = other + row * width + begin;
                for (int64_t i = 0; i < columns; i++) totals[i] += from[i] * ((value[i] - means[row]) * scales[row]);
            } else {
                for (int64_t i = 0; i < columns; i++) totals[i] += from[i];
            }
        }
        for (int64_t i = 0; i < columns; i++) sums[begin + i] = (real)totals[i];
    }
}

// dweight (in, out) = x (rows, in) transposed @ dy (rows, out), dbias (out) = the sums of dy's columns
static inline void linear_weights_backward(const real* x, const real* dy, real* dweight, real* dbias, int64_t rows,
                                           int64_t in, int64_t out, int precision) {
    gemm('T', 'N', in, out, rows, 1.f, x, in, dy, out, 0.f, dweight, out);
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
    gemm('T', 'N', vocabulary, width, rows, 1.f, slopes, vocabulary, x, width, begins ? 0.f : 1.f, table, width);
}

static inline void scale_rows(const real* factors, real* x, int64_t rows, int64_t width) {
    #pragma omp parallel for
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < width; i++) x[row * width + i] *= factors[row];
}
