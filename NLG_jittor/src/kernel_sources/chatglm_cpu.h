// What chatglm_functions.py computes on a processor, on plain row-major float arrays; chatglm_cuda.h has the same
// functions.
#pragma once

// c (m, n) = alpha * op(a) @ op(b) + beta * c, as cuda_products.h has it; `precision` makes no difference here.
static inline void product(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float* a,
                           int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc, int precision) {
    gemm(trans_a ? 'T' : 'N', trans_b ? 'T' : 'N', m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

// The same of `batch` matrices, each so many floats behind the one before it.
static inline void batched_product(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha,
                                   const float* a, int64_t lda, int64_t stride_a, const float* b, int64_t ldb,
                                   int64_t stride_b, float* c, int64_t ldc, int64_t stride_c, int64_t batch) {
    for (int64_t i = 0; i < batch; i++)
        product(trans_a, trans_b, m, n, k, alpha, a + i * stride_a, lda, b + i * stride_b, ldb, 0.f, c + i * stride_c,
                ldc, FP32);
}

static inline void rms_norm_forward(const float* x, const float* weight, float* y, float* scales, int64_t rows,
                                    int64_t width) {
    #pragma omp parallel for
    for (int64_t row = 0; row < rows; row++) {
        const float* from = x + row * width;
        float squares = 0;
        for (int64_t i = 0; i < width; i++) squares += from[i] * from[i];
        const float scale = scales[row] = 1.f / std::sqrt(squares / width + 1e-5f);
        for (int64_t i = 0; i < width; i++) y[row * width + i] = from[i] * scale * weight[i];
    }
}

static inline void rms_norm_backward(const float* dy, const float* x, const float* weight, const float* scales,
                                     float* dx, int64_t rows, int64_t width) {
    #pragma omp parallel for
    for (int64_t row = 0; row < rows; row++) {
        const float *grad = dy + row * width, *from = x + row * width;
        const float scale = scales[row];
        float sum = 0;
        for (int64_t i = 0; i < width; i++) sum += grad[i] * weight[i] * from[i];
        const float shift = sum * scale * scale / width;
        for (int64_t i = 0; i < width; i++) dx[row * width + i] = scale * (grad[i] * weight[i] - from[i] * shift);
    }
}

// y (rows, width) = silu(x[:, :width]) * x[:, width:]
static inline void swiglu_forward(const float* x, float* y, int64_t rows, int64_t width) {
    #pragma omp parallel for
    for (int64_t row = 0; row < rows; row++) {
        const float *gate = x + 2 * row * width, *up = gate + width;
        for (int64_t i = 0; i < width; i++) y[row * width + i] = gate[i] / (1.f + std::exp(-gate[i])) * up[i];
    }
}

static inline void swiglu_backward(const float* dy, const float* x, float* dx, int64_t rows, int64_t width) {
    #pragma omp parallel for
    for (int64_t row = 0; row < rows; row++) {
        const float *gate = x + 2 * row * width, *up = gate + width, *grad = dy + row * width;
        float *dgate = dx + 2 * row * width, *dup = dgate + width;
        for (int64_t i = 0; i < width; i++) {
            const float share = 1.f / (1.f + std::exp(-gate[i]));
            dgate[i] = grad[i] * up[i] * share * (1.f + gate[i] * (1.f - share));
            dup[i] = grad[i] * gate[i] * share;
        }
    }
}

// Of the first `heads` heads of each row, the first half of a head turned in neighbouring pairs by turns (rows,
// head_width / 2), cosines and then sines; in the other direction where `direction` is -1.
static inline void rotate_heads(const float* x, const float* turns, float* y, int64_t rows, int64_t width,
                                int64_t heads, int64_t head_width, float direction) {
    const int64_t pairs = head_width / 4;
    #pragma omp parallel for
    for (int64_t row = 0; row < rows; row++) {
        memcpy(y + row * width, x + row * width, width * 4);
        const float *cosines = turns + row * 2 * pairs, *sines = cosines + pairs;
        for (int64_t head = 0; head < heads; head++) {
            const float* from = x + row * width + head * head_width;
            float* to = y + row * width + head * head_width;
            for (int64_t i = 0; i < pairs; i++) {
                const float a = from[2 * i], b = from[2 * i + 1], cosine = cosines[i], sine = direction * sines[i];
                to[2 * i] = a * cosine - b * sine;
                to[2 * i + 1] = b * cosine + a * sine;
            }
        }
    }
}

// by_group (groups, rows, block) = the first groups * block columns of x (rows, width)
static inline void split_groups(const float* x, float* by_group, int64_t rows, int64_t width, int64_t groups,
                                int64_t block) {
    for (int64_t group = 0; group < groups; group++)
        for (int64_t row = 0; row < rows; row++)
            memcpy(by_group + (group * rows + row) * block, x + row * width + group * block, block * 4);
}

// The first groups * block columns of x (rows, width) = by_group (groups, rows, block)
static inline void join_groups(const float* by_group, float* x, int64_t rows, int64_t width, int64_t groups,
                               int64_t block) {
    for (int64_t group = 0; group < groups; group++)
        for (int64_t row = 0; row < rows; row++)
            memcpy(x + row * width + group * block, by_group + (group * rows + row) * block, block * 4);
}

// Softmax of each row of scores (groups, length, shared, length) over the tokens that its own token sees.
static inline void causal_softmax(float* scores, int64_t groups, int64_t length, int64_t shared) {
    #pragma omp parallel for
    for (int64_t index = 0; index < groups * length * shared; index++) {
        const int64_t token = index / shared % length;
        float *row = scores + index * length, highest = row[0], sum = 0;
        for (int64_t j = 1; j <= token; j++) highest = std::max(highest, row[j]);
        for (int64_t j = 0; j <= token; j++) { row[j] = std::exp(row[j] - highest); sum += row[j]; }
        for (int64_t j = 0; j <= token; j++) row[j] /= sum;
        for (int64_t j = token + 1; j < length; j++) row[j] = 0;
    }
}

// In place of the gradients of those weights, `factor` times the gradients of the scores.
static inline void causal_softmax_backward(const float* weights, float* dweights, int64_t groups, int64_t length,
                                           int64_t shared, float factor) {
    #pragma omp parallel for
    for (int64_t index = 0; index < groups * length * shared; index++) {
        const float* row = weights + index * length;
        float *grad = dweights + index * length, sum = 0;
        for (int64_t j = 0; j < length; j++) sum += row[j] * grad[j];
        for (int64_t j = 0; j < length; j++) grad[j] = factor * row[j] * (grad[j] - sum);
    }
}

// y += x, its elements dropped out
static inline void add_dropped(const float* x, float* y, int64_t rows, int64_t width, Dropout dropout) {
    #pragma omp parallel for
    for (int64_t row = 0; row < rows; row++) {
        const uint32_t token = dropout.token(row);
        for (int64_t i = 0; i < width; i++) y[row * width + i] += x[row * width + i] * dropout.factor(token, i);
    }
}
