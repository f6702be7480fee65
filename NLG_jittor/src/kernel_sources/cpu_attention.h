// Attention; see cpu.h.
#pragma once

// weights (length, length) of a head's queries, the first of which is the token `first`, with dropout in `dropped`
static inline void drop_weights(const float* weights, float* dropped, int64_t length, int64_t first, int64_t heads,
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
static inline void attention_forward(const float* qkv, const int* offsets, float* y, float* weights, int64_t count,
                                     int64_t batch, int64_t most, int64_t heads, int64_t head_width, bool causal,
                                     Dropout dropout) {
    const int64_t width = heads * head_width;
    const float factor = 1.f / std::sqrt((float)head_width);
    #pragma omp parallel
    {
        std::vector<float> room(dropout.kept_factor ? most * most : 0);
        #pragma omp for
        for (int64_t index = 0; index < batch * heads; index++) {
            const int64_t first = offsets[index / heads], length = offsets[index / heads + 1] - first;
            const float* query = qkv + first * 3 * width + (index % heads) * head_width;
            float* scores = weights + index * most * most;
            dnnl_sgemm('N', 'T', length, length, head_width, factor, query, 3 * width, query + width, 3 * width, 0.f,
                       scores, length);
            for (int64_t i = 0; i < length; i++) {
                const int64_t seen = causal ? i + 1 : length;
                float *row = scores + i * length, highest = row[0], sum = 0;
                #pragma omp simd reduction(max : highest)
                for (int64_t j = 1; j < seen; j++) highest = std::max(highest, row[j]);
                for (int64_t j = 0; j < seen; j++) { row[j] = std::exp(row[j] - highest); sum += row[j]; }
                for (int64_t j = 0; j < seen; j++) row[j] /= sum;
                for (int64_t j = seen; j < length; j++) row[j] = 0;
            }
            const float* chosen = scores;
            if (dropout.kept_factor) {
                drop_weights(scores, room.data(), length, first, heads, index % heads, dropout);
                chosen = room.data();
            }
            dnnl_sgemm('N', 'N', length, head_width, length, 1.f, chosen, length, query + 2 * width, 3 * width, 0.f,
                       y + first * width + (index % heads) * head_width, width);
        }
    }
}

static inline void attention_backward(const float* dy, const float* qkv, const int* offsets, const float* y,
                                      const float* weights, float* dqkv, float* dweights, int64_t count, int64_t batch,
                                      int64_t most, int64_t heads, int64_t head_width, bool causal, Dropout dropout) {
    const int64_t width = heads * head_width;
    const float factor = 1.f / std::sqrt((float)head_width);
    #pragma omp parallel for
    for (int64_t index = 0; index < batch * heads; index++) {
        const int64_t first = offsets[index / heads], length = offsets[index / heads + 1] - first;
        const int64_t offset = first * 3 * width + (index % heads) * head_width;
        const float *query = qkv + offset, *p = weights + index * most * most, *chosen = p;
        const float* grad = dy + first * width + (index % heads) * head_width;
        float *dquery = dqkv + offset, *dp = dweights + index * most * most;
        if (dropout.kept_factor) {
            drop_weights(p, dp, length, first, heads, index % heads, dropout);
            chosen = dp;
        }
        dnnl_sgemm('T', 'N', length, head_width, length, 1.f, chosen, length, grad, width, 0.f, dquery + 2 * width,
                   3 * width);
        dnnl_sgemm('N', 'T', length, length, head_width, 1.f, grad, width, query + 2 * width, 3 * width, 0.f, dp,
                   length);
        if (dropout.kept_factor) drop_weights(dp, dp, length, first, heads, index % heads, dropout);
        for (int64_t i = 0; i < length; i++) {
            const int64_t seen = causal ? i + 1 : length;
            float sum = 0;
            for (int64_t j = 0; j < seen; j++) sum += p[i * length + j] * dp[i * length + j];
            for (int64_t j = 0; j < length; j++) dp[i * length + j] = p[i * length + j] * (dp[i * length + j] - sum);
        }
        dnnl_sgemm('N', 'N', length, head_width, length, factor, dp, length, query + width, 3 * width, 0.f, dquery,
                   3 * width);
        dnnl_sgemm('T', 'N', length, head_width, length, factor, dp, length, query, 3 * width, 0.f, dquery + width,
                   3 * width);
    }
}
