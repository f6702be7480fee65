// What kernels.py computes on a GPU, on plain row-major arrays of the device; cpu.h has the same functions.
//
// Products go to cuBLAS. It thinks in columns, so every call below passes its operands in the opposite order.
#pragma once
#include <cstdint>
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

enum Precision { FP32 = 0, TF32 = 1, BF16 = 2, FP16 = 3, FP64 = 4 };
#ifdef FLOAT64
const cudaDataType REAL_TYPE = CUDA_R_64F;
#else
const cudaDataType REAL_TYPE = CUDA_R_32F;
#endif

static inline bool is_half(int precision) { return precision == BF16 || precision == FP16; }

namespace jittor { extern cublasHandle_t cublas_handle; }

static inline int blocks_of(int64_t count, int threads) { return (int)((count + threads - 1) / threads); }

static inline void check(cublasStatus_t status, const char* what) {
    if (status != CUBLAS_STATUS_SUCCESS) LOGf << what << "failed with cuBLAS status" << (int)status;
}

// c (m, n) = alpha * op(a) @ op(b) + beta * c; lda, ldb, ldc are the lengths of the stored rows.
static inline void product(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, real alpha, const void* a,
                           int64_t lda, const void* b, int64_t ldb, real beta, real* c, int64_t ldc, int precision,
                           cudaDataType type = REAL_TYPE) {
    const cublasComputeType_t sums = precision == TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                     : REAL_TYPE == CUDA_R_64F ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F;
    check(cublasGemmEx(jittor::cublas_handle, trans_b ? CUBLAS_OP_T : CUBLAS_OP_N, trans_a ? CUBLAS_OP_T : CUBLAS_OP_N,
                       n, m, k, &alpha, b, type, ldb, a, type, lda, &beta, c, REAL_TYPE, ldc,
                       sums, CUBLAS_GEMM_DEFAULT),
          "a matrix product");
}

static inline __device__ real value_of(real x) { return x; }
static inline __device__ real value_of(__half x) { return __half2float(x); }
static inline __device__ real value_of(__nv_bfloat16 x) { return __bfloat162float(x); }

template <typename T> static __global__ void convert_kernel(const real* x, T* y, int64_t count) {
    const int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (i < count) y[i] = (T)x[i];
}

static inline void round_weight(const real* x, void* y, int64_t count, int precision) {
    if (precision == BF16) convert_kernel<<<blocks_of(count, 256), 256>>>(x, (__nv_bfloat16*)y, count);
    else convert_kernel<<<blocks_of(count, 256), 256>>>(x, (__half*)y, count);
}

// y (rows, out) = x (rows, in) @ w + beta * y, where w is stored (in, out), or (out, in) if it is `transposed`.
// In 16-bit precision w holds 16-bit numbers and x is rounded to them in `scratch`.
static inline void weight_product(const real* x, const void* w, real* y, int64_t rows, int64_t in, int64_t out,
                                  bool transposed, real beta, int precision, real* scratch) {
    const cudaDataType type = precision == BF16 ? CUDA_R_16BF : precision == FP16 ? CUDA_R_16F : REAL_TYPE;
    if (is_half(precision)) round_weight(x, scratch, rows * in, precision);
    product(false, transposed, rows, out, in, 1.f, is_half(precision) ? (const void*)scratch : x, in, w,
            transposed ? in : out, beta, y, out, precision, type);
}

static __device__ real warp_sum(real x) {
    for (int offset = 16; offset; offset >>= 1) x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}

static __device__ real warp_max(real x) {
    for (int offset = 16; offset; offset >>= 1) x = fmax(x, __shfl_xor_sync(0xffffffffu, x, offset));
    return x;
}

const int ROW_THREADS = 128;  // that share a row

// Sums of N numbers over the threads of a block, for all of them.
template <int N> static __device__ void block_sums(real (&sums)[N]) {
    __shared__ real shares[ROW_THREADS / 32][N];
    #pragma unroll
    for (int k = 0; k < N; k++) sums[k] = warp_sum(sums[k]);
    __syncthreads();
    if (threadIdx.x % 32 == 0)
        for (int k = 0; k < N; k++) shares[threadIdx.x / 32][k] = sums[k];
    __syncthreads();
    #pragma unroll
    for (int k = 0; k < N; k++) {
        sums[k] = 0;
        for (int warp = 0; warp < ROW_THREADS / 32; warp++) sums[k] += shares[warp][k];
    }
}
