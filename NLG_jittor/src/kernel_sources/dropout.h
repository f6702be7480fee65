// Which elements dropout drops: the bits of common/run/dropout.py, the same on a processor and on a GPU.
#pragma once
#include <cstdint>

// What all arrays hold, and all sums.
#ifdef FLOAT64
typedef double real;
#else
typedef float real;
#endif

#ifdef __CUDACC__
#define ANYWHERE __host__ __device__
#else
#define ANYWHERE
#endif

ANYWHERE static inline uint32_t mixed(uint32_t x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

// Gives 0 where a feature of a token is dropped, else 1 / (1 - probability); with a factor of 0 it drops nothing, and
// reads no key.
struct Dropout {
    const int *step_key, *token_keys;
    uint32_t stream;
    int32_t threshold;
    real kept_factor;

    ANYWHERE inline uint32_t token(int64_t row) const {
        if (!kept_factor) return 0;
        const uint32_t key = mixed((uint32_t)*step_key + (stream + 1) * 0x85ebca6bu);
        return mixed((uint32_t)token_keys[row] * 0xc2b2ae35u + key);
    }
    ANYWHERE inline real factor(uint32_t token, int64_t feature) const {
        if (!kept_factor) return 1.f;
        const uint32_t h = token + (uint32_t)feature * 0x9e3779b1u;
        return (int32_t)((h ^ (h >> 15)) * 0x846ca68bu) < threshold ? 0.f : kept_factor;
    }
    ANYWHERE inline real operator()(int64_t row, int64_t feature) const { return factor(token(row), feature); }
};

static inline Dropout make_dropout(const int* step_key, const int* token_keys, double stream, double threshold,
                                   double kept_factor) {
    return {step_key, token_keys, (uint32_t)stream, (int32_t)threshold, (real)kept_factor};
}
