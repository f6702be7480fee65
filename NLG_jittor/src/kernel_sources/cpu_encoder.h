// What encoders need beside cpu.h: GELU itself, and the loss over the places of spans.
#pragma once

// exp(u^2 / 2) * Phi(-u) for u >= 0, Phi being the normal distribution: a polynomial of 1 / (1 + 0.3 u), fitted to a
// relative error of 3.4e-9. It keeps all digits where Phi is small, and needs no vectorised erf, which glibc has from
// 2.35 on.
static inline float scaled_tail(float u) {
    const float x = 1.f / (1.f + 0.3f * u);
    float sum = -0.0205947086f;
    sum = sum * x + 0.112273745f;
    sum = sum * x - 0.227818072f;
    sum = sum * x + 0.191234797f;
    sum = sum * x - 0.0789455399f;
    sum = sum * x + 0.0958878547f;
    sum = sum * x + 0.0784874186f;
    sum = sum * x + 0.110213339f;
    sum = sum * x + 0.119574621f;
    sum = sum * x + 0.119686536f;
    return sum * x;
}

// Phi(-u) for u >= 0
static inline float tail_of(float u) { return std::exp(-0.5f * u * u) * scaled_tail(u); }
static inline double tail_of(double u) { return 0.5 * std::erfc(u * 0.7071067811865476); }

// y = u * Phi(u)
static inline void erf_gelu_forward(const real* u, real* y, int64_t count) {
    #pragma omp parallel for simd
    for (int64_t i = 0; i < count; i++) {
        const real tail = tail_of(std::fabs(u[i]));
        y[i] = u[i] * (u[i] < 0 ? tail : 1.f - tail);
    }
}

static inline void erf_gelu_backward(const real* dy, const real* u, real* du, int64_t count) {
    #pragma omp parallel for simd
    for (int64_t i = 0; i < count; i++) {
        const real tail = tail_of(std::fabs(u[i])), density = std::exp(-0.5f * u[i] * u[i]);
        du[i] = dy[i] * ((u[i] < 0 ? tail : 1.f - tail) + u[i] * (real)0.3989422804014327 * density);
    }
}

// losses (batch, 2): label-smoothed cross-entropy of logits (count, 2) over each sequence's places; slopes (count, 2):
// its gradient. targets (batch, 2) are places in the sequences, which begin at `offsets` (batch + 1).
static inline void span_losses(const real* logits, const int* targets, const int* offsets, real* losses,
                               real* slopes, int64_t batch, real smoothing) {
    for (int64_t index = 0; index < batch * 2; index++) {
        const int64_t first = offsets[index / 2], length = offsets[index / 2 + 1] - first;
        const real* z = logits + first * 2 + index % 2;
        real* slope = slopes + first * 2 + index % 2;
        real highest = z[0];
        double exponentials = 0, total = 0;
        for (int64_t i = 0; i < length; i++) highest = std::max(highest, z[2 * i]);
        for (int64_t i = 0; i < length; i++) {
            slope[2 * i] = std::exp(z[2 * i] - highest);
            exponentials += slope[2 * i];
            total += z[2 * i] - highest;
        }
        const real log_sum = (real)std::log(exponentials), inverse = (real)(1 / exponentials);
        losses[index] = (1.f - smoothing) * (log_sum - (z[2 * targets[index]] - highest))
                        + smoothing * (log_sum - (real)(total / length));
        for (int64_t i = 0; i < length; i++) slope[2 * i] = slope[2 * i] * inverse - smoothing / length;
        slope[2 * targets[index]] -= 1.f - smoothing;
    }
}

// y (count, width) = x (count, width) times the factor of each row's sequence
static inline void scale_sequences(const real* factors, const real* x, const int* offsets, real* y, int64_t batch,
                                   int64_t width) {
    for (int64_t index = 0; index < batch; index++)
        for (int64_t i = offsets[index] * width; i < offsets[index + 1] * width; i++) y[i] = x[i] * factors[index];
}
