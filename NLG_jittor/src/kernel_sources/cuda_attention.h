// Attention in training, in one launch each way; see cuda_products.h.
//
// A block owns a tile of 32 places of one sequence and one head and goes over the tiles that these attend to, or that
// attend to these. Scores and weights stay in the block. A tile is this small because sequences are short: 8 x 16
// heads x 54 tokens are two blocks for each multiprocessor of an H100. nvcc unrolls loops with constant ends, so that
// small arrays are registers.
#pragma once

const int TILE = 32;            // places of a tile, as many as a warp has threads
const int TILE_WIDTH = 64;      // the widest head; narrower ones are filled up with zeros
const int TILE_STRIDE = 68;     // floats between its rows in shared memory: float4s of 8 rows are in different banks
const int WEIGHTS_STRIDE = 40;  // between rows of a tile of weights: 8 floats in each of 4 rows are in different banks
const int TILE_THREADS = 128;   // of a block

// A warp's threads are 4 down (bits 1 and 3 of their number) x 8 across a tile (bits 0, 2 and 4). They alternate
// because reading a float4 takes half the time where all threads i and i ^ 1, or all i and i ^ 2, want the same one.
static __device__ int thread_down() { return (threadIdx.x >> 1 & 1) | (threadIdx.x >> 2 & 2); }
static __device__ int thread_across() { return (threadIdx.x & 1) | (threadIdx.x >> 1 & 2) | (threadIdx.x >> 2 & 4); }

// The arrays' sizes beside the grid's: heads x batch x tiles. `aligned`: their rows of a head are whole float4s.
struct AttentionShape {
    int64_t count;
    int width;
    bool aligned;
    float scale;
};

// A thread's share of the places `begin` + 0 to 31 of x, which are `stride` floats apart and zero from `end` on. Of 16
// THREADS to a place each has 4 columns, and share[k] is of every eighth place; of 4 threads each has 16 columns.
template <int THREADS>
static __device__ void fetch(const float* x, int stride, int begin, int end, const AttentionShape& shape,
                             float4 (&share)[4]) {
    const int down = THREADS == 16 ? 8 : 0, right = THREADS == 16 ? 0 : 4;  // from share[k] to share[k + 1]
    const int place = begin + threadIdx.x / THREADS, column = threadIdx.x % THREADS * (TILE_WIDTH / THREADS);
    x += place * stride + column;
    for (int k = 0; k < 4; k++) share[k] = make_float4(0.f, 0.f, 0.f, 0.f);
    if (shape.aligned) {
        for (int k = 0; k < 4; k++)
            if (place + down * k < end && column + right * k < shape.width)
                share[k] = *(const float4*)(x + k * (down * stride + right));
    } else {
        for (int n = 0; n < 16; n++)
            if (place + n / 4 * down < end && column + n / 4 * right + n % 4 < shape.width)
                (&share[n / 4].x)[n % 4] = x[n / 4 * (down * stride + right) + n % 4];
    }
}

static __device__ void put(const float4 (&share)[4], float* tile) {
    for (int k = 0; k < 4; k++)
        *(float4*)(tile + (threadIdx.x / 16 + 8 * k) * TILE_STRIDE + threadIdx.x % 16 * 4) = share[k];
}

// sums[m][n] += row m * STEP of a times row n * 8 of b
template <int STEP, int M> static __device__ void dots(const float* a, const float* b, float (&sums)[M][4]) {
    #pragma unroll 4
    for (int column = 0; column < TILE_WIDTH; column += 4) {
        __align__(16) float x[M][4], y[4][4];
        for (int m = 0; m < M; m++) *(float4*)x[m] = *(const float4*)(a + m * STEP * TILE_STRIDE + column);
        for (int n = 0; n < 4; n++) *(float4*)y[n] = *(const float4*)(b + n * 8 * TILE_STRIDE + column);
        for (int d = 0; d < 4; d++)
            for (int k = 0; k < 4 * M; k++) sums[k / 4][k % 4] += x[k / 4][d] * y[k % 4][d];
    }
}

// sums[m] += weights[m] * the thread's columns of a tile's row: 4 * thread_across() + 0 to 3 and + 32 to 35
template <int M> static __device__ void add_row(float (&sums)[M][8], const float (&weights)[M], const float* row) {
    __align__(16) float x[8];
    *(float4*)x = *(const float4*)(row + 4 * thread_across());
    *(float4*)(x + 4) = *(const float4*)(row + 4 * thread_across() + 32);
    for (int k = 0; k < 8 * M; k++) sums[k / 8][k % 8] += weights[k / 8] * x[k % 8];
}

// Stores those columns of a place, times `factor`.
static __device__ void store_place(float* x, const AttentionShape& shape, const float (&sums)[8], float factor) {
    for (int k = 0; k < 8; k += 4) {
        const int column = 4 * thread_across() + 8 * k;
        __align__(16) float part[4];
        for (int n = 0; n < 4; n++) part[n] = factor * sums[k + n];
        if (shape.aligned && column < shape.width) *(float4*)(x + column) = *(float4*)part;
        for (int n = 0; n < 4; n++)
            if (!shape.aligned && column + n < shape.width) x[column + n] = part[n];
    }
}

// A block owns 32 queries and a warp 8 of them: a thread has two, with 4 keys of a tile or 8 columns of the values.
// Where attention is not CAUSAL, weights may be dropped.
template <bool CAUSAL>
static __global__ void __launch_bounds__(TILE_THREADS, 4) attention_kernel(
        const float* __restrict__ qkv, const int* __restrict__ offsets, float* __restrict__ y,
        float* __restrict__ log_sums, AttentionShape shape, Dropout dropout) {
    __shared__ __align__(16) float queries[TILE * TILE_STRIDE], keys[TILE * TILE_STRIDE], values[TILE * TILE_STRIDE];
    __shared__ __align__(16) float weights[TILE * WEIGHTS_STRIDE];
    const int head = blockIdx.x, own = (gridDim.z - 1 - blockIdx.z) * TILE;  // those with the most keys start first
    const int64_t first = offsets[blockIdx.y];
    const int end = offsets[blockIdx.y + 1] - first;
    if (own >= end) return;
    const int width = gridDim.x * shape.width, stride = 3 * width;
    qkv += first * stride + head * shape.width;
    const int row = threadIdx.x / 32 * 8 + thread_down(), across = thread_across();  // its queries are row and row + 4

    float4 query_share[4], key_share[4], value_share[4];
    fetch<16>(qkv, stride, own, end, shape, query_share);
    fetch<16>(qkv + width, stride, 0, end, shape, key_share);
    fetch<16>(qkv + 2 * width, stride, 0, end, shape, value_share);
    put(query_share, queries);
    uint32_t tokens[2] = {};
    for (int m = 0; m < 2 && !CAUSAL; m++)
        if (own + row + 4 * m < end) tokens[m] = dropout.token(first + own + row + 4 * m);
    float highest[2] = {-INFINITY, -INFINITY}, exponentials[2] = {}, sums[2][8] = {};
    const int stop = CAUSAL ? own + 1 : end;
    for (int begin = 0; begin < stop; begin += TILE) {
        put(key_share, keys);
        put(value_share, values);
        __syncthreads();
        if (begin + TILE < stop) {  // the next ones arrive meanwhile
            fetch<16>(qkv + width, stride, begin + TILE, end, shape, key_share);
            fetch<16>(qkv + 2 * width, stride, begin + TILE, end, shape, value_share);
        }
        float scores[2][4] = {};
        dots<4>(queries + row * TILE_STRIDE, keys + across * TILE_STRIDE, scores);
        for (int m = 0; m < 2; m++) {
            float top = highest[m];
            for (int n = 0; n < 4; n++) {
                const int key = begin + across + 8 * n;
                scores[m][n] = (CAUSAL ? key <= own + row + 4 * m : key < end) ? scores[m][n] * shape.scale : -INFINITY;
                top = fmaxf(top, scores[m][n]);
            }
            for (int bit = 1; bit <= 16; bit *= 4) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, bit));
            const float factor = expf(highest[m] - top);  // at first 0: `top` is finite, for all attend to key 0
            highest[m] = top;
            exponentials[m] *= factor;
            for (int k = 0; k < 8; k++) sums[m][k] *= factor;
            for (int n = 0; n < 4; n++) {
                float weight = expf(scores[m][n] - top);
                exponentials[m] += weight;
                if (!CAUSAL) weight *= dropout.factor(tokens[m], (begin + across + 8 * n) * gridDim.x + head);
                weights[(row + 4 * m) * WEIGHTS_STRIDE + across + 8 * n] = weight;
            }
        }
        __syncwarp();  // which has written all the weights that it reads
        #pragma unroll 2
        for (int k = 0; k < TILE; k += 4) {
            const float4 a = *(const float4*)(weights + row * WEIGHTS_STRIDE + k);
            const float4 b = *(const float4*)(weights + (row + 4) * WEIGHTS_STRIDE + k);
            const float chosen[4][2] = {{a.x, b.x}, {a.y, b.y}, {a.z, b.z}, {a.w, b.w}};
            for (int n = 0; n < 4; n++) add_row(sums, chosen[n], values + (k + n) * TILE_STRIDE);
        }
        __syncthreads();  // before the next tiles take the place of these
    }
    for (int m = 0; m < 2; m++) {
        for (int bit = 1; bit <= 16; bit *= 4) exponentials[m] += __shfl_xor_sync(0xffffffffu, exponentials[m], bit);
        const int place = own + row + 4 * m;
        if (place >= end) continue;  // all of the threads that share the query
        store_place(y + (first + place) * width + head * shape.width, shape, sums[m], 1.f / exponentials[m]);
        if (across == 0) log_sums[head * shape.count + first + place] = highest[m] + logf(exponentials[m]);
    }
}

// A head's queries and dy or, without y and log_sums, its keys and values.
struct Side {
    bool of_queries;
    const float *scored, *weighed, *y, *log_sums;
    int stride, weighed_stride;
};

// A tile of both arrays and, of queries, their log_sums and shifts: dy * y, by which gradients of weights are too high.
// `tokens` get what dropout needs of the queries, which begin at the token `first`.
template <bool CAUSAL>
static __device__ void load_side(const Side& side, int begin, int end, const AttentionShape& shape, float* scored,
                                 float* weighed, float* log_sums, float* shifts, uint32_t* tokens, int64_t first,
                                 const Dropout& dropout) {
    float4 share[4], dy[4];
    fetch<16>(side.scored, side.stride, begin, end, shape, share);
    fetch<16>(side.weighed, side.weighed_stride, begin, end, shape, dy);
    put(share, scored);
    put(dy, weighed);
    if (!side.of_queries) return;
    fetch<4>(side.y, side.weighed_stride, begin, end, shape, share);
    fetch<4>(side.weighed, side.weighed_stride, begin, end, shape, dy);
    // A place's threads go on with each other's sum. This is the order of dots(), so that a weight of 1 has a gradient
    // of 0 and not of a rounding error, which the other gradients may be smaller than.
    float shift = 0.f;
    for (int turn = 0; turn < 4; turn++) {
        for (int k = 0; k < 16; k++) shift += (&share[k / 4].x)[k % 4] * (&dy[k / 4].x)[k % 4];
        shift = __shfl_sync(0xffffffffu, shift, turn, 4);
    }
    if (threadIdx.x % 4 == 0) shifts[threadIdx.x / 4] = shift;
    const int place = begin + threadIdx.x;
    if (threadIdx.x < TILE) log_sums[threadIdx.x] = place < end ? side.log_sums[place] : 0.f;
    if (!CAUSAL && threadIdx.x < TILE) tokens[threadIdx.x] = place < end ? dropout.token(first + place) : 0;
}

// A block owns 32 keys and goes over the queries that attend to them, or owns 32 queries and goes over their keys. Both
// are computed alike: the rows of a tile of scores are the other side's places and its columns the own ones. Half of
// the threads compute weights, the others their gradients. Queries behind the sequence's end add nothing: their dy is 0.
template <bool CAUSAL>
static __global__ void __launch_bounds__(TILE_THREADS, 4) attention_backward_kernel(
        const float* __restrict__ dy, const float* __restrict__ qkv, const int* __restrict__ offsets,
        const float* __restrict__ y, const float* __restrict__ all_log_sums, float* __restrict__ dqkv,
        AttentionShape shape, Dropout dropout) {
    __shared__ __align__(16) float own_scored[TILE * TILE_STRIDE], own_weighed[TILE * TILE_STRIDE];
    __shared__ __align__(16) float scored[TILE * TILE_STRIDE], weighed[TILE * TILE_STRIDE];
    __shared__ __align__(16) float weights[TILE * WEIGHTS_STRIDE], dscores[TILE * WEIGHTS_STRIDE];
    __shared__ float log_sums[TILE], shifts[TILE];
    __shared__ uint32_t tokens[CAUSAL ? 1 : TILE];
    const bool of_keys = blockIdx.z % 2 == 0;
    // the first keys and the last queries have the most to do and start first
    const int head = blockIdx.x, own = (of_keys ? blockIdx.z / 2 : (gridDim.z - blockIdx.z) / 2) * TILE;
    const int64_t first = offsets[blockIdx.y];
    const int end = offsets[blockIdx.y + 1] - first;
    if (own >= end) return;
    const int width = gridDim.x * shape.width, stride = 3 * width;
    const int64_t offset = first * width + head * shape.width;
    qkv += first * stride + head * shape.width;
    dqkv += first * stride + head * shape.width;
    const auto side = [&](bool of_queries) {
        return Side{of_queries, qkv + (of_queries ? 0 : width), of_queries ? dy + offset : qkv + 2 * width, y + offset,
                    all_log_sums + head * shape.count + first, stride, of_queries ? width : stride};
    };

    const int half = threadIdx.x / 64, down = threadIdx.x / 32 % 2 * 4 + thread_down(), across = thread_across();
    float sums[4][8] = {};  // for the own places 4 * down + 0 to 3
    load_side<CAUSAL>(side(!of_keys), own, end, shape, own_scored, own_weighed, log_sums, shifts, tokens, first,
                      dropout);
    const int stop = of_keys || !CAUSAL ? end : own + 1;
    for (int begin = of_keys && CAUSAL ? own : 0; begin < stop; begin += TILE) {
        load_side<CAUSAL>(side(of_keys), begin, end, shape, scored, weighed, log_sums, shifts, tokens, first, dropout);
        __syncthreads();
        float products[4][4] = {};  // of the other places down + 8 m and the own places across + 8 n
        dots<8>((half ? weighed : scored) + down * TILE_STRIDE,
                (half ? own_weighed : own_scored) + across * TILE_STRIDE, products);
        for (int k = 0; k < 16 && !half; k++) {
            const int i = down + k / 4 * 8, j = across + k % 4 * 8;
            const int query = of_keys ? begin + i : own + j, key = of_keys ? own + j : begin + i;
            const bool attends = CAUSAL ? key <= query : key < end;
            const float logarithm = products[k / 4][k % 4] * shape.scale - log_sums[of_keys ? i : j];
            weights[i * WEIGHTS_STRIDE + j] = expf(attends ? logarithm : -INFINITY);
        }
        __syncthreads();
        for (int k = 0; k < 16 && half; k++) {
            const int i = down + k / 4 * 8, j = across + k % 4 * 8, at = i * WEIGHTS_STRIDE + j;
            if (CAUSAL) {
                dscores[at] = weights[at] * (products[k / 4][k % 4] - shifts[of_keys ? i : j]);
            } else {
                const int key = of_keys ? own + j : begin + i;
                const float factor = dropout.factor(tokens[of_keys ? i : j], key * gridDim.x + head);
                dscores[at] = weights[at] * (factor * products[k / 4][k % 4] - shifts[of_keys ? i : j]);
                weights[at] *= factor;
            }
        }
        __syncthreads();
        // the gradients of values and of keys are a half's each; the queries' are both halves', from 16 keys each
        const float* chosen = of_keys && !half ? weights : dscores;
        const float* x = of_keys && !half ? weighed : scored;
        const int from = of_keys ? 0 : half * 16, to = of_keys ? TILE : from + 16;
        #pragma unroll 4
        for (int i = from; i < to; i++) {
            __align__(16) float factors[4];
            *(float4*)factors = *(const float4*)(chosen + i * WEIGHTS_STRIDE + 4 * down);
            add_row(sums, factors, x + i * TILE_STRIDE);
        }
        __syncthreads();  // before the next tiles take the place of these
    }
    if (!of_keys) {
        for (int k = 0; k < 32; k++)
            if (!half) scored[k * 64 + threadIdx.x] = sums[k / 8][k % 8];
        __syncthreads();
        if (!half) return;
        for (int k = 0; k < 32; k++) sums[k / 8][k % 8] += scored[k * 64 + threadIdx.x - 64];
    }
    dqkv += of_keys ? (half ? width : 2 * width) : 0;
    for (int m = 0; m < 4; m++) {
        const int place = own + 4 * down + m;
        if (place < end) store_place(dqkv + place * stride, shape, sums[m], half ? shape.scale : 1.f);
    }
}

static inline AttentionShape attention_shape(int64_t count, int64_t head_width, uintptr_t addresses) {
    if (head_width > TILE_WIDTH) LOGf << "attention has no kernel for heads of width" << head_width;
    return {count, (int)head_width, head_width % 4 == 0 && addresses % 16 == 0,
            1.f / sqrtf((float)head_width)};
}

// Attention over sequences one after another, which begin at `offsets` (batch + 1) and have `length` tokens at most;
// `causal`: a token sees itself and what comes before it alone, and no weight is dropped. qkv (count, 3, heads,
// head_width); y (count, heads, head_width); log_sums (heads, count): the logarithms of the sums of exponentials of
// scores. Dropout's tokens are the queries, its features key position * heads + head.
static inline void attention_forward(const float* qkv, const int* offsets, float* y, float* log_sums, int64_t count,
                                     int64_t batch, int64_t length, int64_t heads, int64_t head_width, bool causal,
                                     Dropout dropout) {
    const dim3 blocks(heads, batch, blocks_of(length, TILE));
    const AttentionShape shape = attention_shape(count, head_width, (uintptr_t)qkv | (uintptr_t)y);
    if (causal) attention_kernel<true><<<blocks, TILE_THREADS>>>(qkv, offsets, y, log_sums, shape, dropout);
    else attention_kernel<false><<<blocks, TILE_THREADS>>>(qkv, offsets, y, log_sums, shape, dropout);
}

// dqkv like qkv. `scratch` is for the processor's version alone.
static inline void attention_backward(const float* dy, const float* qkv, const int* offsets, const float* y,
                                      const float* log_sums, float* dqkv, float* scratch, int64_t count, int64_t batch,
                                      int64_t length, int64_t heads, int64_t head_width, bool causal,
                                      Dropout dropout) {
    const dim3 blocks(heads, batch, 2 * blocks_of(length, TILE));
    const uintptr_t addresses = (uintptr_t)dy | (uintptr_t)qkv | (uintptr_t)y | (uintptr_t)dqkv;
    const AttentionShape shape = attention_shape(count, head_width, addresses);
    if (causal)
        attention_backward_kernel<true><<<blocks, TILE_THREADS>>>(dy, qkv, offsets, y, log_sums, dqkv, shape, dropout);
    else
        attention_backward_kernel<false><<<blocks, TILE_THREADS>>>(dy, qkv, offsets, y, log_sums, dqkv, shape, dropout);
}
