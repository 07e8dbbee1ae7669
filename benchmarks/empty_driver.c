/* Stand-ins for CUDA's libraries in which memory is the host's and kernels do nothing; see empty_driver.py.

   Compiled once for each library, with CUDART, CUBLAS, CUBLASLT or CUDNN defined; functions that are not here return 0,
   which is success in all of them. `empty_driver_counts` tells what was asked for. */

#include <stdlib.h>
#include <string.h>

static int handle(void **where) { *where = calloc(1, 64); return *where ? 0 : 1; }

#ifdef CUDART
#include <cuda_runtime_api.h>

enum { LAUNCHED, RECORDINGS, RECORDED, REPLAYS, FORBIDDEN, COUNTS };
static unsigned long counts[COUNTS];
static int recording;

void empty_driver_counts(unsigned long *out) { memcpy(out, counts, sizeof counts); }

/* What a driver refuses while it records in the global mode. */
static void not_while_recording(void) { counts[FORBIDDEN] += recording; }

static cudaError_t allocate(void **where, size_t size) {
    not_while_recording();
    *where = aligned_alloc(512, (size + 511) / 512 * 512);
    return *where ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaMalloc(void **where, size_t size) { return allocate(where, size); }
cudaError_t cudaMallocHost(void **where, size_t size) { return allocate(where, size); }
cudaError_t cudaHostAlloc(void **where, size_t size, unsigned flags) { return allocate(where, size); }
cudaError_t cudaFree(void *memory) { not_while_recording(); free(memory); return cudaSuccess; }
cudaError_t cudaFreeHost(void *memory) { free(memory); return cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t *left, size_t *all) { *left = 20ul << 30; *all = 24ul << 30; return cudaSuccess; }

cudaError_t cudaMemcpy(void *to, const void *from, size_t size, enum cudaMemcpyKind kind) {
    not_while_recording();
    memcpy(to, from, size);
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, enum cudaMemcpyKind kind, cudaStream_t stream) {
    memcpy(to, from, size);
    return cudaSuccess;
}
cudaError_t cudaMemset(void *to, int value, size_t size) { not_while_recording(); memset(to, value, size); return cudaSuccess; }
cudaError_t cudaMemsetAsync(void *to, int value, size_t size, cudaStream_t stream) { memset(to, value, size); return cudaSuccess; }

cudaError_t cudaGetDeviceCount(int *count) { *count = 1; return cudaSuccess; }
cudaError_t cudaGetDevice(int *device) { *device = 0; return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int *version) { *version = CUDART_VERSION; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *version) { *version = CUDART_VERSION; return cudaSuccess; }
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *device, int number) { /* compute capability 8.9 */
    memset(device, 0, sizeof *device);
    strcpy(device->name, "empty driver");
    device->totalGlobalMem = 24ul << 30;
    device->major = 8, device->minor = 9, device->multiProcessorCount = 128, device->warpSize = 32;
    device->sharedMemPerBlock = 49152, device->sharedMemPerBlockOptin = 101376, device->sharedMemPerMultiprocessor = 102400;
    device->regsPerBlock = device->regsPerMultiprocessor = 65536;
    device->maxThreadsPerBlock = 1024, device->maxThreadsPerMultiProcessor = 1536;
    device->maxThreadsDim[0] = device->maxThreadsDim[1] = 1024, device->maxThreadsDim[2] = 64;
    device->maxGridSize[0] = 2147483647, device->maxGridSize[1] = device->maxGridSize[2] = 65535;
    device->l2CacheSize = 72 << 20;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
    switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = 8; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 9; break;
    case cudaDevAttrMultiProcessorCount: *value = 128; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = 101376; break;
    case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
    case cudaDevAttrMemoryPoolsSupported: *value = 0; break;
    default: *value = 1;
    }
    return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *found, const void *pointer) {
    memset(found, 0, sizeof *found);
    found->type = cudaMemoryTypeDevice;
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream) { return handle((void **)stream); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) { not_while_recording(); return handle((void **)stream); }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { not_while_recording(); return cudaSuccess; }
cudaError_t cudaDeviceSynchronize(void) { not_while_recording(); return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t event) { not_while_recording(); return cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t *event) { return handle((void **)event); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) { return handle((void **)event); }

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
    recording = 1;
    counts[RECORDED] = 0;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    recording = 0;
    counts[RECORDINGS]++;
    return handle((void **)graph);
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    *status = recording ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *ready, cudaGraph_t graph, unsigned long long flags) { return handle((void **)ready); }
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) { counts[REPLAYS]++; return cudaSuccess; }

static cudaError_t launch(void) { counts[LAUNCHED]++; counts[RECORDED] += recording; return cudaSuccess; }
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t stream) { return launch(); }
cudaError_t cudaLaunchKernel(const void *kernel, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t stream) { return launch(); }
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *how, const void *kernel, void **arguments) { return launch(); }
cudaError_t cudaLaunchCooperativeKernel(const void *kernel, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t stream) { return launch(); }
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *argument) { function(argument); return cudaSuccess; }
cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *function) { *kernel = (cudaKernel_t)function; return cudaSuccess; }
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *found, const void *function) {
    memset(found, 0, sizeof *found);
    found->maxThreadsPerBlock = 1024, found->numRegs = 32;
    return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *kernel, int threads, size_t shared, unsigned flags) { *blocks = 2; return cudaSuccess; }

void **__cudaRegisterFatBinary(void *binary) { return calloc(1, 64); }
static _Thread_local struct { dim3 grid, block; size_t shared; void *stream; } pushed;
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, struct CUstream_st *stream) {
    pushed.grid = grid, pushed.block = block, pushed.shared = shared, pushed.stream = stream;
    return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
    *grid = pushed.grid, *block = pushed.block, *shared = pushed.shared, *(void **)stream = pushed.stream;
    return cudaSuccess;
}
const char *cudaGetErrorString(cudaError_t error) { return "empty driver"; }
const char *cudaGetErrorName(cudaError_t error) { return "empty driver"; }
#endif

#ifdef CUBLAS
int cublasCreate_v2(void **where) { return handle(where); }
const char *cublasGetStatusName(int status) { return "empty driver"; }
const char *cublasGetStatusString(int status) { return "empty driver"; }
#endif

#ifdef CUBLASLT
int cublasLtCreate(void **where) { return handle(where); }
int cublasLtMatmulDescCreate(void **where, int compute, int scale) { return handle(where); }
int cublasLtMatmulPreferenceCreate(void **where) { return handle(where); }
int cublasLtMatrixLayoutCreate(void **where, int type, unsigned long rows, unsigned long columns, long stride) { return handle(where); }
int cublasLtMatrixTransformDescCreate(void **where, int type) { return handle(where); }
int cublasLtMatmulAlgoGetHeuristic(void *h, void *d, void *a, void *b, void *c, void *e, void *p, int n, void *found, int *count) { *count = 1; return 0; }
#endif

#ifdef CUDNN
int cudnnCreate(void **where) { return handle(where); }
unsigned long cudnnGetVersion(void) { return 91000; }
const char *cudnnGetErrorString(int status) { return "empty driver"; }
#endif
