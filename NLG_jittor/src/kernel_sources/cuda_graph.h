// Recording the launches of a step and repeating them at once; see cuda_graphs.py.
#pragma once
#include <unordered_map>

static inline void check(cudaError_t status, const char* what) {
    if (status != cudaSuccess) LOGf << what << "failed:" << cudaGetErrorString(status);
}

// Everything runs on the stream of the calling thread (--default-stream per-thread), which unlike the default one can be
// recorded. cuBLAS gets its workspace here, for it would allocate one while being recorded.
static inline void use_stream_of_thread(void* workspace, int64_t bytes) {
    check(cublasSetStream(jittor::cublas_handle, cudaStreamPerThread), "cublasSetStream");
    check(cublasSetWorkspace(jittor::cublas_handle, workspace, bytes), "cublasSetWorkspace");
}

static inline void begin_recording() {
    check(cudaStreamBeginCapture(cudaStreamPerThread, cudaStreamCaptureModeRelaxed), "recording a step");
}

// Launches what was recorded. A graph that was launched before under the same key is brought up to date, which is
// cheaper than a new one: only addresses and numbers differ, unless a library has chosen other kernels.
static inline void launch_recording(int64_t key) {
    static std::unordered_map<int64_t, cudaGraphExec_t> known;
    cudaGraph_t graph;
    check(cudaStreamEndCapture(cudaStreamPerThread, &graph), "recording a step");
    cudaGraphExec_t& exec = known[key];
    cudaGraphExecUpdateResultInfo result;
    if (exec && cudaGraphExecUpdate(exec, graph, &result) != cudaSuccess) {
        cudaGetLastError();
        check(cudaGraphExecDestroy(exec), "cudaGraphExecDestroy");
        exec = nullptr;
    }
    if (!exec) check(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate");
    check(cudaGraphLaunch(exec, cudaStreamPerThread), "cudaGraphLaunch");
    check(cudaGraphDestroy(graph), "cudaGraphDestroy");
}
