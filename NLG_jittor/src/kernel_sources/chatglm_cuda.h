// What chatglm_functions.py computes on a GPU; see cuda_products.h. chatglm_cpu.h has the same functions.
#pragma once

// c = alpha * op(a) @ op(b) of `batch` matrices, each so many floats behind the one before it; float32 throughout.
static inline void batched_product(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha,
                                   const float* a, int64_t lda, int64_t stride_a, const float* b, int64_t ldb,
                                   int64_t stride_b, float* c, int64_t ldc, int64_t stride_c, int64_t batch) {
    const float zero = 0.f;
    check(cublasSgemmStridedBatched(jittor::cublas_handle, trans_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                                    trans_a ? CUBLAS_OP_T : CUBLAS_OP_N, n, m, k, &alpha, b, ldb, stride_b, a, lda,
                                    stride_a, &zero, c, ldc, stride_c, batch),
          "a batched matrix product");
}

// One block a row.
static __global__ void rms_norm_forward_kernel(const float* x, const float* weight, float* y, float* scales,
                                               int width) {
    x += blockIdx.x * (int64_t)width;
    y += blockIdx.x * (int64_t)width;
    float squares[1] = {};
    for (int i = threadIdx.x; i < width; i += ROW_THREADS) squares[0] += x[i] * x[i];
    block_sums(squares);
    const float scale = 1.f / sqrtf(squares[0] / width + 1e-5f);
    for (int i = threadIdx.x; i < width; i += ROW_THREADS) y[i] = x[i] * scale * weight[i];
    if (threadIdx.x == 0) scales[blockIdx.x] = scale;
}

static inline void rms_norm_forward(const float* x, const float* weight, float* y, float* scales, int64_t rows,
                                    int64_t width) {
    rms_norm_forward_kernel<<<rows, ROW_THREADS>>>(x, weight, y, scales, width);
}

static __global__ void rms_norm_backward_kernel(const float* dy, const float* x, const float* weight,
                                                const float* scales, float* dx, int width) {
    const int64_t start = blockIdx.x * (int64_t)width;
    const float scale = scales[blockIdx.x];
    float sums[1] = {};
    for (int i = threadIdx.x; i < width; i += ROW_THREADS) sums[0] += dy[start + i] * weight[i] * x[start + i];
    block_sums(sums);
    const float shift = sums[0] * scale * scale / width;
    for (int i = threadIdx.x; i < width; i += ROW_THREADS)
        dx[start + i] = scale * (dy[start + i] * weight[i] - x[start + i] * shift);
}

static inline void rms_norm_backward(const float* dy, const float* x, const float* weight, const float* scales,
                                     float* dx, int64_t rows, int64_t width) {
    rms_norm_backward_kernel<<<rows, ROW_THREADS>>>(dy, x, weight, scales, dx, width);
}

static __global__ void swiglu_forward_kernel(const float* x, float* y, int width) {
    const int64_t row = blockIdx.x;
    const int i = blockIdx.y * blockDim.x + threadIdx.x;
    if (i >= width) return;
    const float gate = x[2 * row * width + i];
    y[row * width + i] = gate / (1.f + expf(-gate)) * x[(2 * row + 1) * width + i];
}

// y (rows, width) = silu(x[:, :width]) * x[:, width:]
static inline void swiglu_forward(const float* x, float* y, int64_t rows, int64_t width) {
    swiglu_forward_kernel<<<dim3(rows, blocks_of(width, 256)), 256>>>(x, y, width);
}

static __global__ void swiglu_backward_kernel(const float* dy, const float* x, float* dx, int width) {
    const int64_t row = blockIdx.x;
    const int i = blockIdx.y * blockDim.x + threadIdx.x;
    if (i >= width) return;
    const int64_t at_gate = 2 * row * width + i, at_up = at_gate + width;
    const float gate = x[at_gate], grad = dy[row * width + i], share = 1.f / (1.f + expf(-gate));
    dx[at_gate] = grad * x[at_up] * share * (1.f + gate * (1.f - share));
    dx[at_up] = grad * gate * share;
}

static inline void swiglu_backward(const float* dy, const float* x, float* dx, int64_t rows, int64_t width) {
    swiglu_backward_kernel<<<dim3(rows, blocks_of(width, 256)), 256>>>(dy, x, dx, width);
}

static __global__ void rotate_heads_kernel(const float* x, const float* turns, float* y, int width, int turned,
                                           int head_width, float direction) {
    const int64_t row = blockIdx.x;
    const int i = blockIdx.y * blockDim.x + threadIdx.x;  // a pair of neighbours
    if (2 * i >= width) return;
    const int place = i % (head_width / 2), pairs = head_width / 4;
    const float2 pair = ((const float2*)(x + row * width))[i];
    float2 result = pair;
    if (2 * i < turned && place < pairs) {
        const float cosine = turns[row * 2 * pairs + place], sine = direction * turns[(row * 2 + 1) * pairs + place];
        result = make_float2(pair.x * cosine - pair.y * sine, pair.y * cosine + pair.x * sine);
    }
    ((float2*)(y + row * width))[i] = result;
}

// Of the first `heads` heads of each row, the first half of a head turned in neighbouring pairs by turns (rows,
// head_width / 2), cosines and then sines; in the other direction where `direction` is -1.
static inline void rotate_heads(const float* x, const float* turns, float* y, int64_t rows, int64_t width,
                                int64_t heads, int64_t head_width, float direction) {
    rotate_heads_kernel<<<dim3(rows, blocks_of(width / 2, 128)), 128>>>(x, turns, y, width, heads * head_width,
                                                                        head_width, direction);
}

template <bool SPLITS> static __global__ void groups_kernel(const float* from, float* to, int width, int block) {
    const int64_t row = blockIdx.x, rows = gridDim.x, group = blockIdx.z;
    const int i = blockIdx.y * blockDim.x + threadIdx.x;
    if (i >= block) return;
    const int64_t apart = (group * rows + row) * block + i, together = row * width + group * block + i;
    if (SPLITS) to[apart] = from[together];
    else to[together] = from[apart];
}

// by_group (groups, rows, block) = the first groups * block columns of x (rows, width)
static inline void split_groups(const float* x, float* by_group, int64_t rows, int64_t width, int64_t groups,
                                int64_t block) {
    groups_kernel<true><<<dim3(rows, blocks_of(block, 256), groups), 256>>>(x, by_group, width, block);
}

// The first groups * block columns of x (rows, width) = by_group (groups, rows, block)
static inline void join_groups(const float* by_group, float* x, int64_t rows, int64_t width, int64_t groups,
                               int64_t block) {
    groups_kernel<false><<<dim3(rows, blocks_of(block, 256), groups), 256>>>(by_group, x, width, block);
}

// One warp a row.
static __global__ void causal_softmax_kernel(float* scores, int64_t rows, int length, int shared) {
    const int64_t index = (blockIdx.x * (int64_t)blockDim.x + threadIdx.x) / 32;
    if (index >= rows) return;
    const int lane = threadIdx.x % 32, token = index / shared % length;
    float *row = scores + index * length, highest = -INFINITY, sum = 0;
    for (int j = lane; j <= token; j += 32) highest = fmaxf(highest, row[j]);
    highest = warp_max(highest);
    for (int j = lane; j <= token; j += 32) sum += row[j] = expf(row[j] - highest);
    const float inverse = 1.f / warp_sum(sum);
    for (int j = lane; j < length; j += 32) row[j] = j <= token ? row[j] * inverse : 0.f;
}

// Softmax of each row of scores (groups, length, shared, length) over the tokens that its own token sees.
static inline void causal_softmax(float* scores, int64_t groups, int64_t length, int64_t shared) {
    const int64_t rows = groups * length * shared;
    causal_softmax_kernel<<<blocks_of(rows, 4), 128>>>(scores, rows, length, shared);
}

static __global__ void causal_softmax_backward_kernel(const float* weights, float* dweights, int64_t rows, int length,
                                                      float factor) {
    const int64_t index = (blockIdx.x * (int64_t)blockDim.x + threadIdx.x) / 32;
    if (index >= rows) return;
    const float* row = weights + index * length;
    float *grad = dweights + index * length, sum = 0;
    for (int j = threadIdx.x % 32; j < length; j += 32) sum += row[j] * grad[j];
    sum = warp_sum(sum);
    for (int j = threadIdx.x % 32; j < length; j += 32) grad[j] = factor * row[j] * (grad[j] - sum);
}

// In place of the gradients of those weights, `factor` times the gradients of the scores.
static inline void causal_softmax_backward(const float* weights, float* dweights, int64_t groups, int64_t length,
                                           int64_t shared, float factor) {
    const int64_t rows = groups * length * shared;
    causal_softmax_backward_kernel<<<blocks_of(rows, 4), 128>>>(weights, dweights, rows, length, factor);
}

static __global__ void add_dropped_kernel(const float* x, float* y, int64_t width, Dropout dropout) {
    const int64_t row = blockIdx.x, i = blockIdx.y * (int64_t)blockDim.x + threadIdx.x;
    if (i < width) y[row * width + i] += x[row * width + i] * dropout(row, i);
}

// y += x, its elements dropped out
static inline void add_dropped(const float* x, float* y, int64_t rows, int64_t width, Dropout dropout) {
    add_dropped_kernel<<<dim3(rows, blocks_of(width, 256)), 256>>>(x, y, width, dropout);
}
