// Layer norm, GELU, embedding, loss and optimiser; see cuda_products.h.
#pragma once
// One block a row.
static __global__ void layer_norm_forward_kernel(const real* x, const real* weight, const real* bias, real* y,
                                                 real* means, real* scales, int width, real eps) {
    x += blockIdx.x * (int64_t)width;
    y += blockIdx.x * (int64_t)width;
    real sum[1] = {}, squares[1] = {};
    for (int i = threadIdx.x; i < width; i += ROW_THREADS) sum[0] += x[i];
    block_sums(sum);
    const real mean = sum[0] / width;
    for (int i = threadIdx.x; i < width; i += ROW_THREADS) squares[0] += (x[i] - mean) * (x[i] - mean);
    block_sums(squares);
    const real scale = 1.f / sqrt(squares[0] / width + eps);
    for (int i = threadIdx.x; i < width; i += ROW_THREADS) y[i] = (x[i] - mean) * scale * weight[i] + bias[i];
    if (threadIdx.x == 0) { means[blockIdx.x] = mean; scales[blockIdx.x] = scale; }
}

static inline void layer_norm_forward(const real* x, const real* weight, const real* bias, real* y, real* means,
                                      real* scales, int64_t rows, int64_t width, real eps) {
    layer_norm_forward_kernel<<<rows, ROW_THREADS>>>(x, weight, bias, y, means, scales, width, eps);
}

static __global__ void layer_norm_backward_kernel(const real* dy, const real* x, const real* weight,
                                                  const real* means, const real* scales, real* dx, int width) {
    const int64_t start = blockIdx.x * (int64_t)width;
    const real mean = means[blockIdx.x], scale = scales[blockIdx.x];
    real sums[2] = {};
    for (int i = threadIdx.x; i < width; i += ROW_THREADS) {
        const real grad = dy[start + i] * weight[i];
        sums[0] += grad;
        sums[1] += grad * (x[start + i] - mean);
    }
    block_sums(sums);
    const real a = sums[0] / width, b = sums[1] * scale * scale / width;
    for (int i = threadIdx.x; i < width; i += ROW_THREADS)
        dx[start + i] = scale * (dy[start + i] * weight[i] - a - (x[start + i] - mean) * b);
}

static inline void layer_norm_backward(const real* dy, const real* x, const real* weight, const real* means,
                                       const real* scales, real* dx, int64_t rows, int64_t width) {
    layer_norm_backward_kernel<<<rows, ROW_THREADS>>>(dy, x, weight, means, scales, dx, width);
}

static __global__ void fill_rows_kernel(const real* bias, real* y, int width) {
    const int i = blockIdx.y * blockDim.x + threadIdx.x;
    if (i < width) y[blockIdx.x * (int64_t)width + i] = bias[i];
}

static inline void fill_rows(const real* bias, real* y, int64_t rows, int64_t width) {
    fill_rows_kernel<<<dim3(rows, blocks_of(width, 256)), 256>>>(bias, y, width);
}

// gelu(u) = u * sigmoid(2 * sqrt(2 / pi) * (u + 0.044715 * u^3)), the tanh form in other words
static inline __device__ real gelu_gate(real u) {
    return 1.f / (1.f + exp(-(real)1.5957691216057308 * (u + (real)0.044715 * u * u * u)));
}

static __global__ void gelu_forward_kernel(const real* u, real* y, int64_t count) {
    const int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (i < count) y[i] = u[i] * gelu_gate(u[i]);
}

static inline void gelu_forward(const real* u, real* y, int64_t count) {
    gelu_forward_kernel<<<blocks_of(count, 256), 256>>>(u, y, count);
}

static __global__ void gelu_backward_kernel(const real* dy, const real* u, real* du, int64_t count) {
    const int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (i >= count) return;
    const real gate = gelu_gate(u[i]), slope = (real)1.5957691216057308 * (1.f + (real)0.134145 * u[i] * u[i]);
    du[i] = dy[i] * (gate + u[i] * gate * (1.f - gate) * slope);
}

static inline void gelu_backward(const real* dy, const real* u, real* du, int64_t count) {
    gelu_backward_kernel<<<blocks_of(count, 256), 256>>>(dy, u, du, count);
}

template <typename T> static __global__ void take_kernel(const int* indices, const T* table, real* y, int64_t count,
                                                         int width) {
    const int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (i < count) y[i] = value_of(table[indices[i / width] * (int64_t)width + i % width]);
}

// y (count, width) = table[indices]
static inline void take_weights(const int* indices, const void* table, real* y, int64_t count, int64_t width,
                                int precision) {
    const int blocks = blocks_of(count * width, 256);
    if (precision == BF16)
        take_kernel<<<blocks, 256>>>(indices, (const __nv_bfloat16*)table, y, count * width, width);
    else if (precision == FP16)
        take_kernel<<<blocks, 256>>>(indices, (const __half*)table, y, count * width, width);
    else
        take_kernel<<<blocks, 256>>>(indices, (const real*)table, y, count * width, width);
}

static inline void take_rows(const int* indices, const real* x, real* y, int64_t count, int64_t width) {
    take_weights(indices, x, y, count, width, FP32);
}

// A warp has a row of x and up to ADD_COLUMNS of its columns, and goes through all indices, so that the order of a sum
// is always the same.
const int ADD_COLUMNS = 256, ADD_WARPS = 8;
static __global__ void add_rows_kernel(const int* indices, const real* dy, real* x, int count, int64_t rows,
                                       int width) {
    const int64_t row = blockIdx.x * (int64_t)ADD_WARPS + threadIdx.x / 32;
    const int lane = threadIdx.x % 32, begin = blockIdx.y * ADD_COLUMNS + lane;
    if (row >= rows) return;
    real sums[ADD_COLUMNS / 32] = {};
    for (int place = 0; place < count; place += 32) {
        unsigned hits = __ballot_sync(0xffffffffu, place + lane < count && indices[place + lane] == row);
        for (; hits; hits &= hits - 1) {
            const real* from = dy + (place + __ffs(hits) - 1) * (int64_t)width;
            #pragma unroll
            for (int k = 0; k < ADD_COLUMNS / 32; k++)
                if (begin + 32 * k < width) sums[k] += from[begin + 32 * k];
        }
    }
    #pragma unroll
    for (int k = 0; k < ADD_COLUMNS / 32; k++)
        if (begin + 32 * k < width) x[row * width + begin + 32 * k] = sums[k];
}

// x (rows, width) = 0, then x[indices] += dy (count, width)
static inline void add_rows(const int* indices, const real* dy, real* x, int64_t count, int64_t rows, int64_t width) {
    add_rows_kernel<<<dim3(blocks_of(rows, ADD_WARPS), blocks_of(width, ADD_COLUMNS)), 32 * ADD_WARPS>>>(
        indices, dy, x, count, rows, width);
}

const int LOSS_THREADS = 512;

template <bool IS_MAX> static __device__ real block_reduce(real x, real* shared) {
    x = IS_MAX ? warp_max(x) : warp_sum(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
    __syncthreads();
    x = threadIdx.x % 32 < LOSS_THREADS / 32 ? shared[threadIdx.x % 32] : IS_MAX ? -INFINITY : 0.f;
    return IS_MAX ? warp_max(x) : warp_sum(x);
}

// One block a row.
static __global__ void cross_entropy_kernel(real* logits, const int* targets, real* losses, int vocabulary,
                                            real smoothing, bool gradient, real scale) {
    __shared__ real shared[32];
    real* z = logits + blockIdx.x * (int64_t)vocabulary;
    const int target = targets[blockIdx.x];
    real highest = -INFINITY, exponentials = 0, total = 0;
    for (int j = threadIdx.x; j < vocabulary; j += LOSS_THREADS) highest = fmax(highest, z[j]);
    highest = block_reduce<true>(highest, shared);
    const real chosen = z[target] - highest;
    for (int j = threadIdx.x; j < vocabulary; j += LOSS_THREADS) {
        exponentials += exp(z[j] - highest);
        total += z[j] - highest;
    }
    exponentials = block_reduce<false>(exponentials, shared);
    total = block_reduce<false>(total, shared);
    const real log_sum = log(exponentials);
    if (threadIdx.x == 0)
        losses[blockIdx.x] = (1.f - smoothing) * (log_sum - chosen) + smoothing * (log_sum - total / vocabulary);
    if (!gradient) return;
    const real inverse = 1.f / exponentials, uniform = smoothing / vocabulary;
    for (int j = threadIdx.x; j < vocabulary; j += LOSS_THREADS)
        z[j] = scale * (exp(z[j] - highest) * inverse - uniform - (j == target ? 1.f - smoothing : 0.f));
}

// In place of logits (rows, vocabulary) their loss's gradient times `scale`, where asked for; `losses` (rows) get the
// loss.
static inline void cross_entropy_rows(real* logits, const int* targets, real* losses, int64_t rows,
                                      int64_t vocabulary, real smoothing, bool gradient, real scale) {
    cross_entropy_kernel<<<rows, LOSS_THREADS>>>(logits, targets, losses, vocabulary, smoothing, gradient, scale);
}

// One block a row.
static __global__ void softmax_rows_kernel(const real* x, real* y, int64_t width, bool logarithm) {
    __shared__ real shared[32];
    x += blockIdx.x * width;
    y += blockIdx.x * width;
    real highest = -INFINITY, sum = 0;
    for (int64_t j = threadIdx.x; j < width; j += LOSS_THREADS) highest = fmax(highest, x[j]);
    highest = block_reduce<true>(highest, shared);
    for (int64_t j = threadIdx.x; j < width; j += LOSS_THREADS) sum += exp(x[j] - highest);
    sum = block_reduce<false>(sum, shared);
    const real log_sum = log(sum);
    for (int64_t j = threadIdx.x; j < width; j += LOSS_THREADS)
        y[j] = logarithm ? x[j] - highest - log_sum : exp(x[j] - highest) / sum;
}

// y (rows, width) = the softmax of each row of x, or its logarithm
static inline void softmax_rows(const real* x, real* y, int64_t rows, int64_t width, bool logarithm) {
    softmax_rows_kernel<<<rows, LOSS_THREADS>>>(x, y, width, logarithm);
}

static __global__ void adamw_kernel(const real* p, const real* r, const real* m, const real* v, const real* g,
                                    real* new_p, real* new_r, real* new_m, real* new_v, int64_t count, real old1,
                                    real new1, real old2, real new2, real eps, real step_size, double kept) {
    const int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (i >= count) return;
    const real first = old1 * m[i] + new1 * g[i], second = old2 * v[i] + new2 * g[i] * g[i];
    new_m[i] = first;
    new_v[i] = second;
    const double exact = ((double)p[i] + r[i] - step_size * first / (sqrt(second) + eps)) * kept;
    new_p[i] = (real)exact;
    new_r[i] = (real)(exact - new_p[i]);
}

// 1 - beta is taken in float64: for a beta of .999 float32 would lose two digits of it. So is the sum that p and its
// remainder r make.
static inline void adamw(const real* p, const real* r, const real* m, const real* v, const real* g, real* new_p,
                         real* new_r, real* new_m, real* new_v, int64_t count, double beta1, double beta2, real eps,
                         real step_size, double kept) {
    adamw_kernel<<<blocks_of(count, 256), 256>>>(p, r, m, v, g, new_p, new_r, new_m, new_v, count, beta1, 1 - beta1,
                                                 beta2, 1 - beta2, eps, step_size, kept);
}

static __global__ void scale_kernel(const real* x, const real* factor, real* y, int64_t count) {
    const int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (i < count) y[i] = x[i] * factor[0];
}

static inline void scale(const real* x, const real* factor, real* y, int64_t count) {
    scale_kernel<<<blocks_of(count, 256), 256>>>(x, factor, y, count);
}

// Blocks have equal shares of the array, and one block adds up theirs, so that the order of the sum is always the same.
const int SQUARE_BLOCKS = 512, SQUARE_THREADS = 256;

// The sum of a block's numbers, for its first thread.
static __device__ double block_total(double total) {
    __shared__ double shares[SQUARE_THREADS];
    shares[threadIdx.x] = total;
    for (int half = SQUARE_THREADS / 2; half; half >>= 1) {
        __syncthreads();
        if (threadIdx.x < half) shares[threadIdx.x] += shares[threadIdx.x + half];
    }
    return shares[0];
}

static __global__ void squares_kernel(const real* x, int64_t count, double* parts) {
    double total = 0;
    for (int64_t i = blockIdx.x * (int64_t)SQUARE_THREADS + threadIdx.x; i < count; i += gridDim.x * SQUARE_THREADS)
        total += (double)x[i] * x[i];
    total = block_total(total);
    if (threadIdx.x == 0) parts[blockIdx.x] = total;
}

static __global__ void add_parts_kernel(const double* parts, int count, double* sum) {
    double total = 0;
    for (int i = threadIdx.x; i < count; i += SQUARE_THREADS) total += parts[i];
    total = block_total(total);
    if (threadIdx.x == 0) *sum += total;
}

// *sum += the sum of the squares of x (count); parts: room for SQUARE_BLOCKS numbers.
static inline void add_squares(const real* x, int64_t count, double* sum, double* parts) {
    const int needed = blocks_of(count, SQUARE_THREADS), blocks = needed < SQUARE_BLOCKS ? needed : SQUARE_BLOCKS;
    squares_kernel<<<blocks, SQUARE_THREADS>>>(x, count, parts);
    add_parts_kernel<<<1, SQUARE_THREADS>>>(parts, blocks, sum);
}

static __global__ void clip_factor_kernel(const double* squares, real* factor, double max_norm) {
    *factor = (real)fmin(1.0, max_norm / (sqrt(*squares) + 1e-6));
}

static inline void clip_factor(const double* squares, real* factor, double max_norm) {
    clip_factor_kernel<<<1, 1>>>(squares, factor, max_norm);
}

static inline void set_zero(void* array, int64_t bytes) { cudaMemsetAsync(array, 0, bytes); }
