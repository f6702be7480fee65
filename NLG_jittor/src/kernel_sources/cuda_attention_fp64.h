// The functions of cuda_attention.h in float64, of which the tiles there would be too large: a warp for each token and
// head, which keeps a row of weights.
#pragma once

struct AttentionArrays {
    const int* offsets;
    const double *qkv, *y, *log_sums, *dy;
    int64_t count;
    int heads, width;  // width: of a head
    bool causal;
    double scale;
    Dropout dropout;
};

// The sequence and the place in it that a block works for; `at`: where its head begins in an array of one row a token.
struct Place {
    int64_t first, row, at;
    int place, end;

    __device__ Place(const AttentionArrays& a) {
        first = a.offsets[blockIdx.y];
        end = a.offsets[blockIdx.y + 1] - first;
        place = blockIdx.z;
        row = (int64_t)a.heads * a.width;
        at = first * row + blockIdx.x * a.width;
    }
    // Queries (0), keys (1) or values (2) of the first token; the next one's are 3 * row further.
    __device__ const double* of(const AttentionArrays& a, int which) const {
        return a.qkv + first * 3 * row + which * row + blockIdx.x * a.width;
    }
};

static __device__ double dot(const double* x, const double* y, int width) {
    double sum = 0;
    for (int i = 0; i < width; i++) sum += x[i] * y[i];
    return sum;
}

// y[i] = factor * sum over k in begin .. end of weights[k] * row k of x, rows being `stride` apart
static __device__ void weighted_rows(const double* weights, const double* x, int64_t stride, int begin, int end,
                                     int width, double factor, double* y) {
    for (int i = threadIdx.x; i < width; i += 32) {
        double sum = 0;
        for (int k = begin; k < end; k++) sum += weights[k] * x[k * stride + i];
        y[i] = factor * sum;
    }
}

static __global__ void attention_kernel(AttentionArrays a, double* y, double* log_sums) {
    extern __shared__ double weights[];
    const Place query(a);
    if (query.place >= query.end) return;
    const int64_t token = query.first + query.place, stride = 3 * query.row;
    const int seen = a.causal ? query.place + 1 : query.end;
    double highest = -INFINITY, total = 0;
    for (int key = threadIdx.x; key < seen; key += 32) {
        weights[key] = a.scale * dot(query.of(a, 0) + query.place * stride, query.of(a, 1) + key * stride, a.width);
        highest = fmax(highest, weights[key]);
    }
    highest = warp_max(highest);
    for (int key = threadIdx.x; key < seen; key += 32) total += weights[key] = exp(weights[key] - highest);
    total = warp_sum(total);
    const uint32_t number = a.dropout.token(token);
    for (int key = threadIdx.x; key < seen; key += 32)
        weights[key] *= a.dropout.factor(number, key * a.heads + blockIdx.x) / total;
    __syncwarp();
    weighted_rows(weights, query.of(a, 2), stride, 0, seen, a.width, 1, y + query.at + query.place * query.row);
    if (threadIdx.x == 0) log_sums[blockIdx.x * a.count + token] = highest + log(total);
}

// The weight of a key for a query and, in `dscore`, the gradient of its score; `factor` is what dropout makes of it.
static __device__ double weight_of(const AttentionArrays& a, const Place& at, int query, int key, double* dscore,
                                   double* factor) {
    const int64_t stride = 3 * at.row, token = at.first + query;
    const double* dy = a.dy + at.at + query * at.row;
    const double score = a.scale * dot(at.of(a, 0) + query * stride, at.of(a, 1) + key * stride, a.width);
    const double weight = exp(score - a.log_sums[blockIdx.x * a.count + token]);
    *factor = a.dropout.factor(a.dropout.token(token), key * a.heads + blockIdx.x);
    *dscore = weight * (*factor * dot(dy, at.of(a, 2) + key * stride, a.width)
                        - dot(dy, a.y + at.at + query * at.row, a.width));
    return weight;
}

static __global__ void attention_queries_backward_kernel(AttentionArrays a, double* dqkv) {
    extern __shared__ double dscores[];
    const Place query(a);
    if (query.place >= query.end) return;
    const int64_t stride = 3 * query.row;
    const int seen = a.causal ? query.place + 1 : query.end;
    double factor;
    for (int key = threadIdx.x; key < seen; key += 32) weight_of(a, query, query.place, key, &dscores[key], &factor);
    __syncwarp();
    weighted_rows(dscores, query.of(a, 1), stride, 0, seen, a.width, a.scale,
                  dqkv + (query.of(a, 0) - a.qkv) + query.place * stride);
}

static __global__ void attention_keys_backward_kernel(AttentionArrays a, double* dqkv) {
    extern __shared__ double dscores[];
    const Place key(a);
    if (key.place >= key.end) return;
    double* weights = dscores + key.end;
    const int64_t stride = 3 * key.row;
    const int begin = a.causal ? key.place : 0;
    for (int query = begin + threadIdx.x; query < key.end; query += 32) {
        double factor;
        const double weight = weight_of(a, key, query, key.place, &dscores[query], &factor);
        weights[query] = weight * factor;
    }
    __syncwarp();
    dqkv += key.place * stride;
    weighted_rows(dscores, key.of(a, 0), stride, begin, key.end, a.width, a.scale, dqkv + (key.of(a, 1) - a.qkv));
    weighted_rows(weights, a.dy + key.at, key.row, begin, key.end, a.width, 1, dqkv + (key.of(a, 2) - a.qkv));
}

// See cuda_attention.h.
static inline void attention_forward(const double* qkv, const int* offsets, double* y, double* log_sums, int64_t count,
                                     int64_t batch, int64_t length, int64_t heads, int64_t head_width, bool causal,
                                     Dropout dropout) {
    const AttentionArrays arrays = {offsets, qkv, nullptr, nullptr, nullptr, count, (int)heads, (int)head_width, causal,
                                    1 / sqrt((double)head_width), dropout};
    attention_kernel<<<dim3(heads, batch, length), 32, length * sizeof(double)>>>(arrays, y, log_sums);
}

static inline void attention_backward(const double* dy, const double* qkv, const int* offsets, const double* y,
                                      const double* log_sums, double* dqkv, double* scratch, int64_t count,
                                      int64_t batch, int64_t length, int64_t heads, int64_t head_width, bool causal,
                                      Dropout dropout) {
    const AttentionArrays arrays = {offsets, qkv, y, log_sums, dy, count, (int)heads, (int)head_width, causal,
                                    1 / sqrt((double)head_width), dropout};
    const dim3 blocks(heads, batch, length);
    attention_queries_backward_kernel<<<blocks, 32, length * sizeof(double)>>>(arrays, dqkv);
    attention_keys_backward_kernel<<<blocks, 32, 2 * length * sizeof(double)>>>(arrays, dqkv);
}
