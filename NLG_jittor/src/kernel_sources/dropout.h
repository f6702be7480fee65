// Which elements dropout drops: the same on a processor and on a GPU.
#pragma once
#include <cstdint>

#ifdef __CUDACC__
#define ANYWHERE __host__ __device__
#else
#define ANYWHERE
#endif

// Gives 0 where element `index` is dropped, else 1 / (1 - probability). The bits are those of murmur3's 32-bit
// finaliser.
struct Dropout {
    uint32_t seed, threshold;
    float kept;
    Dropout(double seed, double probability) : seed((uint32_t)seed),
        threshold((uint32_t)(probability * 4294967296.0)), kept((float)(1.0 / (1.0 - probability))) {}
    ANYWHERE inline float operator()(int64_t index) const {
        if (!threshold) return 1.f;
        uint32_t h = (uint32_t)index * 0x9e3779b1u + seed;
        h ^= h >> 16; h *= 0x85ebca6bu; h ^= h >> 13; h *= 0xc2b2ae35u; h ^= h >> 16;
        return h < threshold ? 0.f : kept;
    }
};
