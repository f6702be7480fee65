// LoRA's low-rank update with its dropout; see cuda_products.h.
#pragma once
// 0 where element `index` is dropped, else 1 / (1 - probability); the bits are those of murmur3's 32-bit finaliser.
static inline __device__ float dropout_factor(uint32_t index, uint32_t seed, uint32_t threshold, float kept) {
    uint32_t h = index * 0x9e3779b1u + seed;
    h ^= h >> 16; h *= 0x85ebca6bu; h ^= h >> 13; h *= 0xc2b2ae35u; h ^= h >> 16;
    return h < threshold ? 0.f : kept;
}

struct Dropout {
    uint32_t seed, threshold;
    float kept;
    Dropout(double seed, double probability) : seed((uint32_t)seed),
        threshold((uint32_t)(probability * 4294967296.0)), kept((float)(1.0 / (1.0 - probability))) {}
    inline __device__ float operator()(int64_t index) const {
        return threshold ? dropout_factor((uint32_t)index, seed, threshold, kept) : 1.f;
    }
};

static __global__ void dropout_kernel(const float* x, float* y, int64_t count, Dropout dropout) {
    const int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (i < count) y[i] = x[i] * dropout(i);
}

static inline void dropout_apply(const float* x, float* y, int64_t count, Dropout dropout) {
    dropout_kernel<<<blocks_of(count, 256), 256>>>(x, y, count, dropout);
}

// What LoRA adds: for the p-th of `enabled` projections, columns[p] * width .. of y get scaling * t_p @ B_p.T, with
// t = dropout(x) @ A.T, A (enabled * r, in), B (enabled * width, r).
struct Lora {
    int r, enabled, width;
    int columns[3];
    float scaling;
};

const int CHUNK = 8;  // ranks that a thread keeps in registers

// t (rows, total) = dropout(x) @ A.T
static __global__ void lora_down_kernel(const float* x, const float* a, float* t, int rows, int in, int total,
                                        Dropout dropout) {
    const int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    for (int first = 0; first < total; first += CHUNK) {
        float sums[CHUNK] = {};
        for (int i = lane; i < in; i += 32) {
            const int64_t index = (int64_t)row * in + i;
            const float value = x[index] * dropout(index);
            #pragma unroll
            for (int e = 0; e < CHUNK; e++)
                if (first + e < total) sums[e] += value * a[(int64_t)(first + e) * in + i];
        }
        #pragma unroll
        for (int e = 0; e < CHUNK; e++) {
            const float sum = warp_sum(sums[e]);
            if (lane == 0 && first + e < total) t[(int64_t)row * total + first + e] = sum;
        }
    }
}

static __global__ void lora_up_kernel(const float* t, const float* b, float* y, int64_t count, int out, Lora lora) {
    const int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (i >= count) return;
    const int span = lora.enabled * lora.width;
    const int64_t row = i / span;
    const int j = i % span, p = j / lora.width;
    float sum = 0;
    for (int e = 0; e < lora.r; e++)
        sum += t[row * lora.enabled * lora.r + p * lora.r + e] * b[(int64_t)j * lora.r + e];
    y[row * out + lora.columns[p] * lora.width + j % lora.width] += lora.scaling * sum;
}

static inline void lora_forward(const float* x, const float* a, const float* b, float* t, float* y, int64_t rows, int64_t in,
                         int64_t out, Lora lora, Dropout dropout) {
    lora_down_kernel<<<blocks_of(rows * 32, 128), 128>>>(x, a, t, rows, in, lora.enabled * lora.r, dropout);
    const int64_t count = rows * lora.enabled * lora.width;
    lora_up_kernel<<<blocks_of(count, 256), 256>>>(t, b, y, count, out, lora);
}

// dt (rows, enabled * r) = scaling * dy_p @ B_p
static __global__ void lora_up_backward_kernel(const float* dy, const float* b, float* dt, int rows, int out,
                                               Lora lora) {
    const int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
    const int p = blockIdx.y;
    if (row >= rows) return;
    dy += (int64_t)row * out + lora.columns[p] * lora.width;
    b += (int64_t)p * lora.width * lora.r;
    for (int first = 0; first < lora.r; first += CHUNK) {
        float sums[CHUNK] = {};
        for (int j = lane; j < lora.width; j += 32) {
            const float value = dy[j];
            #pragma unroll
            for (int e = 0; e < CHUNK; e++)
                if (first + e < lora.r) sums[e] += value * b[(int64_t)j * lora.r + first + e];
        }
        #pragma unroll
        for (int e = 0; e < CHUNK; e++) {
            const float sum = warp_sum(sums[e]);
            if (lane == 0 && first + e < lora.r)
                dt[(int64_t)row * lora.enabled * lora.r + p * lora.r + first + e] = lora.scaling * sum;
        }
    }
}

// result[i * step_i + e * step_e] = factor * sum over rows of values[row, i] * dropout * t[row, e] for i < width and
// e < r; 32 columns and GROUPS shares of the rows a block.
const int GROUPS = 16;
static __global__ void lora_sum_kernel(const float* values, int stride, const float* t, int total, float* result,
                                       int step_i, int step_e, int rows, int width, int r, float factor,
                                       Dropout dropout) {
    __shared__ float shares[GROUPS][CHUNK][32];
    const int lane = threadIdx.x % 32, group = threadIdx.x / 32, i = blockIdx.x * 32 + lane;
    for (int first = 0; first < r; first += CHUNK) {
        float sums[CHUNK] = {};
        if (i < width)
            for (int row = group; row < rows; row += GROUPS) {
                const int64_t index = (int64_t)row * stride + i;
                const float value = values[index] * dropout(index);
                #pragma unroll
                for (int e = 0; e < CHUNK; e++)
                    if (first + e < r) sums[e] += value * t[(int64_t)row * total + first + e];
            }
        for (int e = 0; e < CHUNK; e++) shares[group][e][lane] = sums[e];
        __syncthreads();
        if (group < CHUNK && first + group < r && i < width) {
            float sum = 0;
            for (int g = 0; g < GROUPS; g++) sum += shares[g][group][lane];
            result[(int64_t)i * step_i + (int64_t)(first + group) * step_e] = factor * sum;
        }
        __syncthreads();
    }
}

static __global__ void lora_down_backward_kernel(const float* dt, const float* a, float* dx, int64_t count, int in,
                                                 int total, Dropout dropout) {
    const int64_t index = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (index >= count) return;
    float sum = 0;
    for (int e = 0; e < total; e++) sum += dt[index / in * total + e] * a[(int64_t)e * in + index % in];
    dx[index] += sum * dropout(index);
}

// Adds LoRA's part to dx and writes da and db.
static inline void lora_backward(const float* dy, const float* x, const float* a, const float* b, const float* t, float* dx,
                          float* da, float* db, float* dt, int64_t rows, int64_t in, int64_t out, Lora lora,
                          Dropout dropout) {
    const int total = lora.enabled * lora.r;
    lora_up_backward_kernel<<<dim3(blocks_of(rows * 32, 128), lora.enabled), 128>>>(dy, b, dt, rows, out, lora);
    for (int p = 0; p < lora.enabled; p++)
        lora_sum_kernel<<<blocks_of(lora.width, 32), 32 * GROUPS>>>(
            dy + lora.columns[p] * lora.width, out, t + p * lora.r, total, db + (int64_t)p * lora.width * lora.r, lora.r,
            1, rows, lora.width, lora.r, lora.scaling, Dropout(0, 0));
    lora_sum_kernel<<<blocks_of(in, 32), 32 * GROUPS>>>(x, in, dt, total, da, 1, in, rows, in, total, 1.f, dropout);
    lora_down_backward_kernel<<<blocks_of(rows * in, 256), 256>>>(dt, a, dx, rows * in, in, total, dropout);
}
