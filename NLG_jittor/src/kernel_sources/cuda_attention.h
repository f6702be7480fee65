// Causal attention in training; see cuda_products.h. Its products are small: in tf32 they were measured to be slower.
#pragma once
// Where the operands of a batch of products lie: array k starts at bases[k] and has, for batch item i and head h, an
// offset of i * outer[k] + h * inner[k] elements.
struct Operands {
    const float* bases[8];
    int64_t outer[8], inner[8];
    int count;
};

static __global__ void pointers_kernel(Operands operands, int64_t* pointers, int batch, int heads) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= batch * heads) return;
    for (int k = 0; k < operands.count; k++)
        pointers[k * batch * heads + index] = (int64_t)(
            operands.bases[k] + index / heads * operands.outer[k] + index % heads * operands.inner[k]);
}

static __global__ void causal_softmax_kernel(float* scores, int64_t rows, int length) {
    const int64_t row = (blockIdx.x * (int64_t)blockDim.x + threadIdx.x) / 32;
    const int lane = threadIdx.x % 32;
    if (row >= rows) return;
    scores += row * length;
    const int end = row % length + 1;
    float highest = -INFINITY, sum = 0;
    for (int j = lane; j < end; j += 32) highest = fmaxf(highest, scores[j]);
    highest = warp_max(highest);
    for (int j = lane; j < end; j += 32) sum += expf(scores[j] - highest);
    const float inverse = 1.f / warp_sum(sum);
    for (int j = lane; j < length; j += 32) scores[j] = j < end ? expf(scores[j] - highest) * inverse : 0.f;
}

// Causal attention. qkv (batch, length, 3, heads, head_width); weights (batch, heads, length, length), y like one of
// the three; `pointers` has room for 8 arrays of batch * heads.
static inline void attention_forward(const float* qkv, float* y, float* weights, int64_t* pointers, int64_t batch,
                                     int64_t length, int64_t heads, int64_t head_width) {
    const int64_t width = heads * head_width, count = batch * heads, square = length * length;
    const int64_t fused = length * 3 * width;
    const Operands operands = {{qkv, qkv + width, qkv + 2 * width, weights, y},
                               {fused, fused, fused, heads * square, length * width},
                               {head_width, head_width, head_width, square, head_width}, 5};
    pointers_kernel<<<blocks_of(count, 128), 128>>>(operands, pointers, batch, heads);
    int64_t *query = pointers, *key = query + count, *value = key + count, *p = value + count, *output = p + count;
    products(false, true, length, length, head_width, 1.f / sqrtf(head_width), query, 3 * width, key, 3 * width, p,
             length, count);
    causal_softmax_kernel<<<blocks_of(count * length * 32, 128), 128>>>(weights, count * length, length);
    products(false, false, length, head_width, length, 1.f, p, length, value, 3 * width, output, width, count);
}

static __global__ void softmax_backward_kernel(const float* p, float* dp, int64_t rows, int length) {
    const int64_t row = (blockIdx.x * (int64_t)blockDim.x + threadIdx.x) / 32;
    const int lane = threadIdx.x % 32;
    if (row >= rows) return;
    p += row * length;
    dp += row * length;
    const int end = row % length + 1;
    float sum = 0;
    for (int j = lane; j < end; j += 32) sum += p[j] * dp[j];
    sum = warp_sum(sum);
    for (int j = lane; j < length; j += 32) dp[j] = j < end ? p[j] * (dp[j] - sum) : 0.f;
}

static inline void attention_backward(const float* dy, const float* qkv, const float* weights, float* dqkv,
                                      float* dweights, int64_t* pointers, int64_t batch, int64_t length, int64_t heads,
                                      int64_t head_width) {
    const int64_t width = heads * head_width, count = batch * heads, square = length * length;
    const int64_t fused = length * 3 * width;
    const Operands operands = {{qkv, qkv + width, qkv + 2 * width, weights, dy, dqkv, dqkv + width, dqkv + 2 * width},
                               {fused, fused, fused, heads * square, length * width, fused, fused, fused},
                               {head_width, head_width, head_width, square, head_width, head_width, head_width,
                                head_width}, 8};
    pointers_kernel<<<blocks_of(count, 128), 128>>>(operands, pointers, batch, heads);
    const Operands gradient = {{dweights}, {heads * square}, {square}, 1};
    pointers_kernel<<<blocks_of(count, 128), 128>>>(gradient, pointers + 8 * count, batch, heads);
    int64_t* of[9];
    for (int k = 0; k < 9; k++) of[k] = pointers + k * count;
    int64_t *query = of[0], *key = of[1], *value = of[2], *p = of[3], *grad = of[4], *dp = of[8];
    const float factor = 1.f / sqrtf(head_width);
    products(true, false, length, head_width, length, 1.f, p, length, grad, width, of[7], 3 * width, count);
    products(false, true, length, length, head_width, 1.f, grad, width, value, 3 * width, dp, length, count);
    softmax_backward_kernel<<<blocks_of(count * length * 32, 128), 128>>>(weights, dweights, count * length, length);
    products(false, false, length, head_width, length, factor, dp, length, key, 3 * width, of[5], 3 * width, count);
    products(true, false, length, head_width, length, factor, dp, length, query, 3 * width, of[6], 3 * width, count);
}
