// What kernels.py computes on a processor, on plain row-major arrays; cuda_products.h and the files beside it have the
// same functions.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

enum Precision { FP32 = 0, TF32 = 1, BF16 = 2, FP16 = 3, FP64 = 4 };
typedef real Weight;  // in 16-bit training the values are rounded, the storage is not

static inline bool is_half(int precision) { return precision == BF16 || precision == FP16; }

// c (m, n) = alpha * op(a) @ op(b) + beta * c; op transposes where transa or transb is 'T'. Inside a parallel region
// it runs on one thread, outside on all of them.
#if defined(HAS_ONEDNN) && !defined(FLOAT64)
extern "C" int dnnl_sgemm(char transa, char transb, int64_t m, int64_t n, int64_t k, float alpha, const float* a,
                          int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

static inline void gemm(char transa, char transb, int64_t m, int64_t n, int64_t k, float alpha, const float* a,
                        int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
    dnnl_sgemm(transa, transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
#else
static inline void gemm(char transa, char transb, int64_t m, int64_t n, int64_t k, real alpha, const real* a,
                        int64_t lda, const real* b, int64_t ldb, real beta, real* c, int64_t ldc) {
    std::vector<real> turned(transb == 'N' ? 0 : k * n);  // so that the innermost loop goes along rows
    if (transb != 'N') {
        for (int64_t j = 0; j < n; j++)
            for (int64_t l = 0; l < k; l++) turned[l * n + j] = b[j * ldb + l];
        b = turned.data();
        ldb = n;
    }
    #pragma omp parallel for
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) c[i * ldc + j] = beta == 0 ? 0 : beta * c[i * ldc + j];
        for (int64_t l = 0; l < k; l++) {
            const real factor = alpha * (transa == 'N' ? a[i * lda + l] : a[l * lda + i]);
            for (int64_t j = 0; j < n; j++) c[i * ldc + j] += factor * b[l * ldb + j];
        }
    }
}
#endif

// Rounds to the nearest number that has `bits` fewer bits in its fraction, ties to even.
static inline float rounded(float x, int bits) {
    uint32_t word;
    memcpy(&word, &x, 4);
    const uint32_t half = (1u << (bits - 1)) - 1 + ((word >> bits) & 1);
    word = (word + half) & ~((1u << bits) - 1);
    memcpy(&x, &word, 4);
    return x;
}

// fp16 has 10 bits of fraction like this, and loses its smallest numbers and its largest, which bf16 does not.
static inline float rounded_to(float x, int precision) {
    if (precision == BF16) return rounded(x, 16);
    if (std::fabs(x) > 65504.f) return x > 0 ? INFINITY : (x < 0 ? -INFINITY : x);
    if (std::fabs(x) < 6.103515625e-5f) return std::nearbyint(x * 16777216.f) / 16777216.f;
    return rounded(x, 13);
}

static inline void round_weight(const real* x, Weight* out, int64_t count, int precision) {
    #pragma omp parallel for
    for (int64_t i = 0; i < count; i++) out[i] = rounded_to(x[i], precision);
}

// y (rows, out) = x (rows, in) @ w + beta * y, where w is stored (in, out), or (out, in) if it is `transposed`.
static inline void weight_product(const real* x, const Weight* w, real* y, int64_t rows, int64_t in, int64_t out,
                                  bool transposed, real beta, int precision, real* scratch) {
    if (is_half(precision)) {
        round_weight(x, scratch, rows * in, precision);
        x = scratch;
    }
    gemm('N', transposed ? 'T' : 'N', rows, out, in, 1.f, x, in, w, transposed ? in : out, beta, y, out);
}

static inline void layer_norm_forward(const real* x, const real* weight, const real* bias, real* y, real* means,
                                      real* scales, int64_t rows, int64_t width, real eps) {
    #pragma omp parallel for
    for (int64_t row = 0; row < rows; row++) {
        const real* from = x + row * width;
        real sum = 0, squares = 0;
        for (int64_t i = 0; i < width; i++) sum += from[i];
        const real mean = sum / width;
        for (int64_t i = 0; i < width; i++) squares += (from[i] - mean) * (from[i] - mean);
        const real scale = 1.f / std::sqrt(squares / width + eps);
        for (int64_t i = 0; i < width; i++) y[row * width + i] = (from[i] - mean) * scale * weight[i] + bias[i];
        means[row] = mean;
        scales[row] = scale;
    }
}

static inline void layer_norm_backward(const real* dy, const real* x, const real* weight, const real* means,
                                       const real* scales, real* dx, int64_t rows, int64_t width) {
    #pragma omp parallel for
    for (int64_t row = 0; row < rows; row++) {
        const real *grad = dy + row * width, *from = x + row * width;
        const real mean = means[row], scale = scales[row];
        real sum = 0, product = 0;
        for (int64_t i = 0; i < width; i++) {
            sum += grad[i] * weight[i];
            product += grad[i] * weight[i] * (from[i] - mean);
        }
        const real a = sum / width, b = product * scale * scale / width;
        for (int64_t i = 0; i < width; i++)
            dx[row * width + i] = scale * (grad[i] * weight[i] - a - (from[i] - mean) * b);
    }
}

static inline void fill_rows(const real* bias, real* y, int64_t rows, int64_t width) {
    #pragma omp parallel for
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < width; i++)
            y[row * width + i] = bias[i];
}

// gelu(u) = u * sigmoid(2 * sqrt(2 / pi) * (u + 0.044715 * u^3)), the tanh form in other words
static inline real gelu_gate(real u) {
    return 1.f / (1.f + std::exp(-(real)1.5957691216057308 * (u + (real)0.044715 * u * u * u)));
}

static inline void gelu_forward(const real* u, real* y, int64_t count) {
    #pragma omp parallel for simd
    for (int64_t i = 0; i < count; i++) y[i] = u[i] * gelu_gate(u[i]);
}

static inline void gelu_backward(const real* dy, const real* u, real* du, int64_t count) {
    #pragma omp parallel for simd
    for (int64_t i = 0; i < count; i++) {
        const real gate = gelu_gate(u[i]);
        const real slope = (real)1.5957691216057308 * (1.f + (real)0.134145 * u[i] * u[i]);
        du[i] = dy[i] * (gate + u[i] * gate * (1.f - gate) * slope);
    }
}

static inline void dropout_apply(const real* x, real* y, int64_t rows, int64_t width, Dropout dropout) {
    #pragma omp parallel for
    for (int64_t row = 0; row < rows; row++) {
        const uint32_t token = dropout.token(row);
        for (int64_t i = 0; i < width; i++) y[row * width + i] = x[row * width + i] * dropout.factor(token, i);
    }
}

// What LoRA adds: for the p-th of `enabled` projections, columns[p] * width .. of y get scaling * t_p @ B_p.T, with
// t = dropout(x) @ A.T, A (enabled * r, in), B (enabled * width, r).
struct Lora {
    int r, enabled, width;
    int columns[3];
    real scaling;
};

static inline void lora_forward(const real* x, const real* a, const real* b, real* t, real* y, int64_t rows,
                                int64_t in, int64_t out, Lora lora, Dropout dropout) {
    const int total = lora.enabled * lora.r;
    #pragma omp parallel
    {
        std::vector<real> kept(in);
        #pragma omp for
        for (int64_t row = 0; row < rows; row++) {
            const uint32_t token = dropout.token(row);
            for (int64_t i = 0; i < in; i++) kept[i] = x[row * in + i] * dropout.factor(token, i);
            for (int e = 0; e < total; e++) {
                real sum = 0;
                for (int64_t i = 0; i < in; i++) sum += kept[i] * a[e * in + i];
                t[row * total + e] = sum;
            }
            for (int p = 0; p < lora.enabled; p++)
                for (int j = 0; j < lora.width; j++) {
                    real sum = 0;
                    for (int e = 0; e < lora.r; e++)
                        sum += t[row * total + p * lora.r + e] * b[(p * lora.width + j) * lora.r + e];
                    y[row * out + lora.columns[p] * lora.width + j] += lora.scaling * sum;
                }
        }
    }
}

// Adds LoRA's part to dx and writes da and db.
static inline void lora_backward(const real* dy, const real* x, const real* a, const real* b, const real* t,
                                 real* dx, real* da, real* db, real* dt, int64_t rows, int64_t in, int64_t out,
                                 Lora lora, Dropout dropout) {
    const int total = lora.enabled * lora.r;
    for (int p = 0; p < lora.enabled; p++) {
        const real* part = dy + lora.columns[p] * lora.width;
        const int64_t first = (int64_t)p * lora.width * lora.r;
        gemm('N', 'N', rows, lora.r, lora.width, lora.scaling, part, out, b + first, lora.r, 0.f,
                   dt + p * lora.r, total);
        gemm('T', 'N', lora.width, lora.r, rows, lora.scaling, part, out, t + p * lora.r, total, 0.f,
                   db + first, lora.r);
    }
    #pragma omp parallel for
    for (int64_t row = 0; row < rows; row++) {
        const uint32_t token = dropout.token(row);
        for (int64_t i = 0; i < in; i++) {
            real sum = 0;
            for (int e = 0; e < total; e++) sum += dt[row * total + e] * a[e * in + i];
            dx[row * in + i] += sum * dropout.factor(token, i);
        }
    }
    std::vector<real> kept;
    if (dropout.kept_factor) {
        kept.resize(rows * in);
        dropout_apply(x, kept.data(), rows, in, dropout);
        x = kept.data();
    }
    gemm('T', 'N', total, in, rows, 1.f, dt, total, x, in, 0.f, da, in);
}

// y (count, width) = table[indices]
static inline void take_weights(const int* indices, const Weight* table, real* y, int64_t count, int64_t width,
                                int precision) {
    #pragma omp parallel for
    for (int64_t row = 0; row < count; row++) memcpy(y + row * width, table + indices[row] * width, width * sizeof(real));
}

static inline void take_rows(const int* indices, const real* x, real* y, int64_t count, int64_t width) {
    take_weights(indices, x, y, count, width, FP32);
}

// x (rows, width) = 0, then x[indices] += dy (count, width)
static inline void add_rows(const int* indices, const real* dy, real* x, int64_t count, int64_t rows, int64_t width) {
    memset(x, 0, rows * width * sizeof(real));
    for (int64_t row = 0; row < count; row++)
        for (int64_t i = 0; i < width; i++) x[indices[row] * width + i] += dy[row * width + i];
}

// In place of logits (rows, vocabulary) their loss's gradient times `scale`, where asked for; `losses` (rows) get the
// loss.
static inline void cross_entropy_rows(real* logits, const int* targets, real* losses, int64_t rows,
                                      int64_t vocabulary, real smoothing, bool gradient, real scale) {
    #pragma omp parallel for
    for (int64_t row = 0; row < rows; row++) {
        real* z = logits + row * vocabulary;
        real highest = z[0];
        #pragma omp simd reduction(max : highest)
        for (int64_t j = 1; j < vocabulary; j++) highest = std::max(highest, z[j]);
        const real chosen = z[targets[row]] - highest;
        double exponentials = 0, total = 0;
        // blocks, for a float32 accumulator over the whole vocabulary would lose three digits
        for (int64_t begin = 0; begin < vocabulary; begin += 256) {
            const int64_t end = std::min(begin + 256, vocabulary);
            real block = 0, plain = 0;
            for (int64_t j = begin; j < end; j++) {
                const real shifted = z[j] - highest, exponential = std::exp(shifted);
                block += exponential;
                plain += shifted;
                if (gradient) z[j] = exponential;
            }
            exponentials += block;
            total += plain;
        }
        const real log_sum = (real)std::log(exponentials);
        losses[row] = (1.f - smoothing) * (log_sum - chosen) + smoothing * (log_sum - (real)(total / vocabulary));
        if (gradient) {
            const real inverse = (real)(scale / exponentials), uniform = scale * smoothing / vocabulary;
            for (int64_t j = 0; j < vocabulary; j++) z[j] = z[j] * inverse - uniform;
            z[targets[row]] -= scale * (1.f - smoothing);
        }
    }
}

// y (rows, width) = the softmax of each row of x, or its logarithm
static inline void softmax_rows(const real* x, real* y, int64_t rows, int64_t width, bool logarithm) {
    #pragma omp parallel for
    for (int64_t row = 0; row < rows; row++) {
        const real *from = x + row * width, highest = *std::max_element(from, from + width);
        double sum = 0;
        for (int64_t j = 0; j < width; j++) sum += std::exp(from[j] - highest);
        const real log_sum = (real)std::log(sum);
        for (int64_t j = 0; j < width; j++) {
            const real shifted = from[j] - highest;
            y[row * width + j] = logarithm ? shifted - log_sum : (real)(std::exp(shifted) / sum);
        }
    }
}

// 1 - beta is taken in float64: for a beta of .999 float32 would lose two digits of it. So is the sum that p and its
// remainder r make, for Jittor's compiler flags would let the remainder cancel.
static inline void adamw(const real* p, const real* r, const real* m, const real* v, const real* g, real* new_p,
                         real* new_r, real* new_m, real* new_v, int64_t count, double beta1, double beta2, real eps,
                         real step_size, double kept) {
    const real old1 = beta1, old2 = beta2, new1 = 1 - beta1, new2 = 1 - beta2;
    for (int64_t i = 0; i < count; i++) {
        new_m[i] = old1 * m[i] + new1 * g[i];
        new_v[i] = old2 * v[i] + new2 * g[i] * g[i];
        const double exact = ((double)p[i] + r[i] - step_size * new_m[i] / (std::sqrt(new_v[i]) + eps)) * kept;
        new_p[i] = (real)exact;
        new_r[i] = (real)(exact - new_p[i]);
    }
}

static inline void scale(const real* x, const real* factor, real* y, int64_t count) {
    for (int64_t i = 0; i < count; i++) y[i] = x[i] * factor[0];
}

// `parts` is for the GPU's version alone.
static inline void add_squares(const real* x, int64_t count, double* sum, double* parts) {
    double total = 0;
    for (int64_t i = 0; i < count; i++) total += (double)x[i] * x[i];
    *sum += total;
}

static inline void clip_factor(const double* squares, real* factor, double max_norm) {
    *factor = (real)std::min(1.0, max_norm / (std::sqrt(*squares) + 1e-6));
}

static inline void set_zero(void* array, int64_t bytes) { memset(array, 0, bytes); }
