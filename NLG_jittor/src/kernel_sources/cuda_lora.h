// LoRA's low-rank update with its dropout; see cuda_products.h.
#pragma once

static __global__ void dropout_kernel(const real* x, real* y, int64_t width, Dropout dropout) {
    const int64_t row = blockIdx.x, i = blockIdx.y * (int64_t)blockDim.x + threadIdx.x;
    if (i < width) y[row * width + i] = x[row * width + i] * dropout(row, i);
}

static inline void dropout_apply(const real* x, real* y, int64_t rows, int64_t width, Dropout dropout) {
    dropout_kernel<<<dim3(rows, blocks_of(width, 256)), 256>>>(x, y, width, dropout);
}

// What LoRA adds: for the p-th of `enabled` projections, columns[p] * width .. of y get scaling * t_p @ B_p.T, with
// t = dropout(x) @ A.T, A (enabled * r, in), B (enabled * width, r).
struct Lora {
    int r, enabled, width;
    int columns[3];
    real scaling;
};

const int CHUNK = 8;  // ranks that a thread keeps in registers

// t (rows, total) = dropout(x) @ A.T
static __global__ void lora_down_kernel(const real* x, const real* a, real* t, int in, int total, Dropout dropout) {
    const int64_t row = blockIdx.x;
    const uint32_t token = dropout.token(row);
    for (int first = 0; first < total; first += CHUNK) {
        real sums[CHUNK] = {};
        for (int i = threadIdx.x; i < in; i += ROW_THREADS) {
            const real value = x[row * in + i] * dropout.factor(token, i);
            #pragma unroll
            for (int e = 0; e < CHUNK; e++)
                if (first + e < total) sums[e] += value * a[(int64_t)(first + e) * in + i];
        }
        block_sums(sums);
        if (threadIdx.x < CHUNK && first + threadIdx.x < total)
            for (int e = 0; e < CHUNK; e++)
                if (e == threadIdx.x) t[row * total + first + e] = sums[e];
    }
}

// y_p (rows, width) += scaling * t_p @ B_p.T
static __global__ void lora_up_kernel(const real* t, const real* b, real* y, int out, Lora lora) {
    const int j = blockIdx.y * blockDim.x + threadIdx.x, p = blockIdx.z;
    const int64_t row = blockIdx.x;
    if (j >= lora.width) return;
    t += row * lora.enabled * lora.r + p * lora.r;
    b += ((int64_t)p * lora.width + j) * lora.r;
    real sum = 0;
    for (int e = 0; e < lora.r; e++) sum += t[e] * b[e];
    y[row * out + lora.columns[p] * lora.width + j] += lora.scaling * sum;
}

static inline void lora_forward(const real* x, const real* a, const real* b, real* t, real* y, int64_t rows,
                                int64_t in, int64_t out, Lora lora, Dropout dropout) {
    lora_down_kernel<<<rows, ROW_THREADS>>>(x, a, t, in, lora.enabled * lora.r, dropout);
    lora_up_kernel<<<dim3(rows, blocks_of(lora.width, 256), lora.enabled), 256>>>(t, b, y, out, lora);
}

// dt (rows, enabled * r) = scaling * dy_p @ B_p
static __global__ void lora_up_backward_kernel(const real* dy, const real* b, real* dt, int out, Lora lora) {
    const int64_t row = blockIdx.x;
    const int p = blockIdx.y;
    dy += row * out + lora.columns[p] * lora.width;
    b += (int64_t)p * lora.width * lora.r;
    for (int first = 0; first < lora.r; first += CHUNK) {
        real sums[CHUNK] = {};
        for (int j = threadIdx.x; j < lora.width; j += ROW_THREADS) {
            const real value = dy[j];
            #pragma unroll
            for (int e = 0; e < CHUNK; e++)
                if (first + e < lora.r) sums[e] += value * b[(int64_t)j * lora.r + first + e];
        }
        block_sums(sums);
        if (threadIdx.x < CHUNK && first + threadIdx.x < lora.r)
            for (int e = 0; e < CHUNK; e++)
                if (e == threadIdx.x) dt[row * lora.enabled * lora.r + p * lora.r + first + e] = lora.scaling * sums[e];
    }
}

// For i < width and e < r: result[i * step_i + e * step_e] = factor * sum over rows of values[row, i] * dropout *
// t[row, e]; a block has 32 columns and GROUPS shares of the rows. blockIdx.y is a projection, whose values start
// `apart[p]` columns later, its t `r` later, and its results `width * r` later.
const int GROUPS = 128 / sizeof(real);
static __global__ void lora_sum_kernel(const real* values, int stride, int3 apart, const real* t, int total,
                                       real* result, int step_i, int step_e, int rows, int width, int r, real factor,
                                       Dropout dropout) {
    __shared__ real shares[GROUPS][CHUNK][33];
    const int lane = threadIdx.x % 32, group = threadIdx.x / 32, i = blockIdx.x * 32 + lane, p = blockIdx.y;
    values += p == 0 ? apart.x : p == 1 ? apart.y : apart.z;
    t += p * r;
    result += (int64_t)p * width * r;
    for (int first = 0; first < r; first += CHUNK) {
        real sums[CHUNK] = {};
        if (i < width) {
            #pragma unroll 4
            for (int row = group; row < rows; row += GROUPS) {
                const real value = values[(int64_t)row * stride + i] * dropout(row, i);
                #pragma unroll
                for (int e = 0; e < CHUNK; e++)
                    if (first + e < r) sums[e] += value * t[(int64_t)row * total + first + e];
            }
        }
        #pragma unroll
        for (int e = 0; e < CHUNK; e++) shares[group][e][lane] = sums[e];
        __syncthreads();
        if (group < CHUNK && first + group < r && i < width) {
            real sum = 0;
            #pragma unroll
            for (int g = 0; g < GROUPS; g++) sum += shares[g][group][lane];
            result[(int64_t)i * step_i + (int64_t)(first + group) * step_e] = factor * sum;
        }
        __syncthreads();
    }
}

// dx += dropout * dt @ A
static __global__ void lora_down_backward_kernel(const real* dt, const real* a, real* dx, int in, int total,
                                                 Dropout dropout) {
    const int i = blockIdx.y * blockDim.x + threadIdx.x;
    const int64_t row = blockIdx.x;
    if (i >= in) return;
    real sum = 0;
    for (int e = 0; e < total; e++) sum += dt[row * total + e] * a[(int64_t)e * in + i];
    dx[row * in + i] += sum * dropout(row, i);
}

// Adds LoRA's part to dx and writes da and db.
static inline void lora_backward(const real* dy, const real* x, const real* a, const real* b, const real* t,
                                 real* dx, real* da, real* db, real* dt, int64_t rows, int64_t in, int64_t out,
                                 Lora lora, Dropout dropout) {
    const int total = lora.enabled * lora.r;
    const int3 apart = {lora.columns[0] * lora.width, lora.columns[1] * lora.width, lora.columns[2] * lora.width};
    lora_up_backward_kernel<<<dim3(rows, lora.enabled), ROW_THREADS>>>(dy, b, dt, out, lora);
    lora_sum_kernel<<<dim3(blocks_of(lora.width, 32), lora.enabled), 32 * GROUPS>>>(
        dy, out, apart, t, total, db, lora.r, 1, rows, lora.width, lora.r, lora.scaling, Dropout{});
    lora_sum_kernel<<<blocks_of(in, 32), 32 * GROUPS>>>(x, in, int3{0, 0, 0}, dt, total, da, 1, in, rows, in, total,
                                                        1.f, dropout);
    lora_down_backward_kernel<<<dim3(rows, blocks_of(in, 256)), 256>>>(dt, a, dx, in, total, dropout);
}
