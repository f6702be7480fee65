// Attention; see cpu.h.
#pragma once

// weights (length, length) of a head's queries, the first of which is the token `first`, with dropout in `dropped`
static inline void drop_weights(const real* weights, real* dropped, int64_t length, int64_t first, int64_t heads,
                                int64_t head, const Dropout& dropout) {
    for (int64_t i = 0; i < length; i++) {
        const uint32_t token = dropout.token(first + i);
        for (int64_t j = 0; j < length; j++)
            dropped[i * length + j] = weights[i * length + j] * dropout.factor(token, j * heads + head);
    }
}

// Attention over sequences one after another, which begin at `offsets` (batch + 1); `causal`: a token sees itself and
// what comes before it alone. qkv (count, 3, heads, head_width); weights (batch, heads, most, most), of which each
// sequence uses as much as it is long, before dropout; y like one of the three. Dropout's tokens are the queries, its
// features key position * heads + head.
static inline void attention_forward(const real* qkv, const int* offsets, real* y, real* weights, int64_t count,
                                     int64_t batch, int64_t most, int64_t heads, int64_t head_width, bool causal,
                                     Dropout dropout) {
    const int64_t width = heads * head_width;
    const real factor = 1.f / std::sqrt((real)head_width);
    #pragma omp parallel
    {
        std::vector<real> room(dropout.kept_factor ? most * most : 0);
        #pragma omp for
        for (int64_t index = 0; index < batch * heads; index++) {
            const int64_t first = offsets[index / heads], length = offsets[index / heads + 1] - first;
            const real* query = qkv + first * 3 * width + (index % heads) * head_width;
            real* scores = weights + index * most * most;
            gemm('N', 'T', length, length, head_width, factor, query, 3 * width, query + width, 3 * width, 0.f,
                       scores, length);
            for (int64_t i = 0; i < length; i++) {
                const int64_t seen = causal ? i + 1 : length;
                real *row = scores + i * length, highest = row[0], sum = 0;
                #pragma omp simd reduction(max : highest)
                for (int64_t j = 1; j < seen; j++) highest = std::max(highest, row[j]);
                for (int64_t j = 0; j < seen; j++) { row[j] = std::exp(row[j] - highest); sum += row[j]; }
                for (int64_t j = 0; j < seen; j++) row[j] /= sum;
                for (int64_t j = seen; j < length; j++) row[j] = 0;
            }
            const real* chosen = scores;
            if (dropout.kept_factor) {
                drop_weights(scores, room.data(), length, first, heads, index % heads, dropout);
                chosen = room.data();
            }
            gemm('N', 'N', length, head_width, length, 1.f, chosen, length, query + 2 * width, 3 * width, 0.f,
                       y + first * width + (index % heads) * head_width, width);
        }
    }
}

static inline void attention_backward(const real* dy, const real* qkv, const int* offsets, const real* y,
                                      const real* weights, real* dqkv, real* dweights, int64_t count, int64_t batch,
                                      int64_t most, int64_t heads, int64_t head_width, bool causal, Dropout dropout) {
    const int64_t width = heads * head_width;
    const real factor = 1.f / std::sqrt((real)head_width);
    #pragma omp parallel for
    for (int64_t index = 0; index < batch * heads; index++) {
        const int64_t first = offsets[index / heads], length = offsets[index / heads + 1] - first;
        const int64_t offset = first * 3 * width + (index % heads) * head_width;
        const real *query = qkv + offset, *p = weights + index * most * most, *chosen = p;
        const real* grad = dy + first * width + (index % heads) * head_width;
        real *dquery = dqkv + offset, *dp = dweights + index * most * most;
        if (dropout.kept_factor) {
            drop_weights(p, dp, length, first, heads, index % heads, dropout);
            chosen = dp;
        }
        gemm('T', 'N', length, head_width, length, 1.f, chosen, length, grad, width, 0.f, dquery + 2 * width,
                   3 * width);
        gemm('N', 'T', length, length, head_width, 1.f, grad, width, query + 2 * width, 3 * width, 0.f, dp,
                   length);
        if (dropout.kept_factor) drop_weights(dp, dp, length, first, heads, index % heads, dropout);
        for (int64_t i = 0; i < length; i++) {
            const int64_t seen = causal ? i + 1 : length;
            real sum = 0;
            for (int64_t j = 0; j < seen; j++) sum += p[i * length + j] * dp[i * length + j];
            for (int64_t j = 0; j < length; j++) dp[i * length + j] = p[i * length + j] * (dp[i * length + j] - sum);
        }
        gemm('N', 'N', length, head_width, length, factor, dp, length, query + width, 3 * width, 0.f, dquery,
                   3 * width);
        gemm('T', 'N', length, head_width, length, factor, dp, length, query, 3 * width, 0.f, dquery + width,
                   3 * width);
    }
}
