// What encoders need beside cuda_layers.h: GELU itself, and the loss over the places of spans.
#pragma once

static __device__ float normal_distribution(float u) { return normcdff(u); }
static __device__ double normal_distribution(double u) { return normcdf(u); }

// y = u * Phi(u), Phi being the normal distribution
static __global__ void erf_gelu_forward_kernel(const real* u, real* y, int64_t count) {
    const int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (i < count) y[i] = u[i] * normal_distribution(u[i]);
}

static inline void erf_gelu_forward(const real* u, real* y, int64_t count) {
    erf_gelu_forward_kernel<<<blocks_of(count, 256), 256>>>(u, y, count);
}

static __global__ void erf_gelu_backward_kernel(const real* dy, const real* u, real* du, int64_t count) {
    const int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (i < count) du[i] = dy[i] * (normal_distribution(u[i]) + u[i] * (real)0.3989422804014327 * exp(-0.5f * u[i] * u[i]));
}

static inline void erf_gelu_backward(const real* dy, const real* u, real* du, int64_t count) {
    erf_gelu_backward_kernel<<<blocks_of(count, 256), 256>>>(dy, u, du, count);
}

// A block of one warp for each sequence's starts, and one for its ends.
static __global__ void span_losses_kernel(const real* logits, const int* targets, const int* offsets, real* losses,
                                          real* slopes, real smoothing) {
    const int64_t first = offsets[blockIdx.x / 2];
    const int length = offsets[blockIdx.x / 2 + 1] - first, target = targets[blockIdx.x];
    const real* z = logits + first * 2 + blockIdx.x % 2;
    real* slope = slopes + first * 2 + blockIdx.x % 2;
    real highest = -INFINITY, exponentials = 0, total = 0;
    for (int i = threadIdx.x; i < length; i += 32) highest = fmax(highest, z[2 * i]);
    highest = warp_max(highest);
    for (int i = threadIdx.x; i < length; i += 32) {
        exponentials += exp(z[2 * i] - highest);
        total += z[2 * i] - highest;
    }
    exponentials = warp_sum(exponentials);
    total = warp_sum(total);
    const real log_sum = log(exponentials), inverse = 1.f / exponentials;
    if (threadIdx.x == 0)
        losses[blockIdx.x] = (1.f - smoothing) * (log_sum - (z[2 * target] - highest))
                             + smoothing * (log_sum - total / length);
    for (int i = threadIdx.x; i < length; i += 32)
        slope[2 * i] = exp(z[2 * i] - highest) * inverse - smoothing / length
                       - (i == target ? 1.f - smoothing : 0.f);
}

// losses (batch, 2): label-smoothed cross-entropy of logits (count, 2) over each sequence's places; slopes (count, 2):
// its gradient. targets (batch, 2) are places in the sequences, which begin at `offsets` (batch + 1).
static inline void span_losses(const real* logits, const int* targets, const int* offsets, real* losses,
                               real* slopes, int64_t batch, real smoothing) {
    span_losses_kernel<<<batch * 2, 32>>>(logits, targets, offsets, losses, slopes, smoothing);
}

static __global__ void scale_sequences_kernel(const real* factors, const real* x, const int* offsets, real* y,
                                              int64_t width) {
    const int64_t begin = offsets[blockIdx.x] * width, end = offsets[blockIdx.x + 1] * width;
    for (int64_t i = begin + threadIdx.x; i < end; i += ROW_THREADS) y[i] = x[i] * factors[blockIdx.x];
}

// y (count, width) = x (count, width) times the factor of each row's sequence
static inline void scale_sequences(const real* factors, const real* x, const int* offsets, real* y, int64_t batch,
                                   int64_t width) {
    scale_sequences_kernel<<<batch, ROW_THREADS>>>(factors, x, offsets, y, width);
}
