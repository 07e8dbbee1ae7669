/* NVIDIA's driver with memory of the host, for `empty_gpu.py`: what pycuda and `driver_graph.py` call of it.

   Copies are made when they are asked for. Launches of a graph are counted and do nothing. Calls that need a context
   are refused where none is current on the thread, and so are streams, events and modes that are not as they should
   be. `empty_gpu_counts` tells what is there and was not given back. */

#include <stdlib.h>
#include <string.h>
#include <cuda.h>

#define NEED_CONTEXT if (depth == 0) return CUDA_ERROR_INVALID_CONTEXT
#define STREAM ((CUstream)0x77)
#define GRAPH ((CUgraph)0x99)
#define EXECUTABLE ((CUgraphExec)0xaa)
#define MOST_BYTES (5ull << 30)

enum { CONTEXTS, ALLOCATIONS, PINNED, STREAMS, EVENTS, GRAPHS, LAUNCHES, COPIED_BYTES, KINDS };
static long long counts[KINDS];
static int capturing;
static _Thread_local CUcontext stack[8];
static _Thread_local int depth;

static CUresult copied(void *to, const void *from, size_t bytes)
{
    NEED_CONTEXT;
    memcpy(to, from, bytes);
    counts[COPIED_BYTES] += bytes;
    return CUDA_SUCCESS;
}

CUresult cuInit(unsigned flags) { return CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int *version) { *version = 13000; return CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice *device, int ordinal) { *device = 0; return CUDA_SUCCESS; }
CUresult cuDeviceGetName(char *name, int bytes, CUdevice device) { strncpy(name, "Empty", bytes); return CUDA_SUCCESS; }
CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) { *bytes = 8ull << 30; return CUDA_SUCCESS; }

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
    *value = attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? 8
           : attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR ? 9 : 0;
    return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult code, const char **name) { *name = "CUDA_ERROR_OF_THE_STAND_IN"; return CUDA_SUCCESS; }
CUresult cuGetErrorString(CUresult code, const char **text) { *text = "told by the stand-in"; return CUDA_SUCCESS; }

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
    counts[CONTEXTS]++;
    *context = (CUcontext)0x10;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) { counts[CONTEXTS]--; return CUDA_SUCCESS; }
CUresult cuCtxPushCurrent_v2(CUcontext context) { stack[depth++] = context; return CUDA_SUCCESS; }

CUresult cuCtxPopCurrent_v2(CUcontext *context)
{
    NEED_CONTEXT;
    depth--;
    if (context) *context = stack[depth];
    return CUDA_SUCCESS;
}

CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *bytes)
{
    NEED_CONTEXT;
    *free_bytes = 6ull << 30;
    *bytes = 8ull << 30;
    return CUDA_SUCCESS;
}

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes)
{
    void *memory;
    NEED_CONTEXT;
    if (bytes > MOST_BYTES || posix_memalign(&memory, 512, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    memset(memory, 0xff, bytes); /* NaNs */
    *address = (CUdeviceptr)memory;
    counts[ALLOCATIONS]++;
    return CUDA_SUCCESS;
}

CUresult cuMemFree_v2(CUdeviceptr address) { NEED_CONTEXT; free((void *)address); counts[ALLOCATIONS]--; return CUDA_SUCCESS; }

CUresult cuMemHostAlloc(void **memory, size_t bytes, unsigned flags)
{
    NEED_CONTEXT;
    counts[PINNED]++;
    return posix_memalign(memory, 4096, bytes) ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

CUresult cuMemFreeHost(void *memory) { NEED_CONTEXT; free(memory); counts[PINNED]--; return CUDA_SUCCESS; }

CUresult cuMemsetD8Async(CUdeviceptr address, unsigned char value, size_t bytes, CUstream stream)
{
    NEED_CONTEXT;
    memset((void *)address, value, bytes);
    return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream)
{
    return stream == STREAM ? copied((void *)to, from, bytes) : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream)
{
    return stream == STREAM ? copied(to, (void *)from, bytes) : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *copy, CUstream stream)
{
    if (copy->srcMemoryType != CU_MEMORYTYPE_DEVICE || copy->dstMemoryType != CU_MEMORYTYPE_DEVICE || stream != STREAM)
        return CUDA_ERROR_INVALID_VALUE;
    for (size_t line = 0; line < copy->Height; line++) {
        CUresult answer = copied((char *)copy->dstDevice + line * copy->dstPitch + copy->dstXInBytes,
                                 (char *)copy->srcDevice + line * copy->srcPitch + copy->srcXInBytes, copy->WidthInBytes);
        if (answer) return answer;
    }
    return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream *stream, unsigned flags)
{
    NEED_CONTEXT;
    *stream = STREAM;
    counts[STREAMS]++;
    return flags == CU_STREAM_NON_BLOCKING ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuStreamDestroy_v2(CUstream stream) { NEED_CONTEXT; counts[STREAMS]--; return CUDA_SUCCESS; }
CUresult cuStreamSynchronize(CUstream stream) { NEED_CONTEXT; return capturing ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS; }
CUresult cuEventCreate(CUevent *event, unsigned flags) { NEED_CONTEXT; counts[EVENTS]++; *event = (CUevent)0x88; return CUDA_SUCCESS; }
CUresult cuEventDestroy_v2(CUevent event) { counts[EVENTS]--; return CUDA_SUCCESS; }
CUresult cuEventRecord(CUevent event, CUstream stream) { NEED_CONTEXT; return stream == STREAM ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE; }
CUresult cuEventElapsedTime(float *ms, CUevent start, CUevent end) { *ms = 1; return CUDA_SUCCESS; }

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode)
{
    if (stream != STREAM || mode != CU_STREAM_CAPTURE_MODE_THREAD_LOCAL) return CUDA_ERROR_INVALID_VALUE;
    capturing = 1;
    return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph)
{
    capturing = 0;
    *graph = GRAPH;
    counts[GRAPHS]++;
    return getenv("EMPTY_GPU_REFUSES_CAPTURE") ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *executable, CUgraph graph, unsigned long long flags)
{
    if (graph != GRAPH || flags != 0) return CUDA_ERROR_INVALID_VALUE;
    *executable = EXECUTABLE;
    counts[GRAPHS]++;
    return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec executable, CUstream stream)
{
    NEED_CONTEXT;
    counts[LAUNCHES]++;
    return executable == EXECUTABLE && stream == STREAM ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuGraphExecDestroy(CUgraphExec executable) { counts[GRAPHS]--; return CUDA_SUCCESS; }
CUresult cuGraphDestroy(CUgraph graph) { counts[GRAPHS]--; return CUDA_SUCCESS; }
void empty_gpu_counts(long long *into) { memcpy(into, counts, sizeof counts); }
