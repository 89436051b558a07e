/*
 * Keeps address space aside for small allocations, so that Python does not run out of memory in the middle of them.
 *
 * Neither Python nor trio can go on after any allocation that fails: a thread that finds no memory for its first step
 * leaves whoever starts it waiting for ever (CPython issue 140746), and trio's loop ends where it cannot put a task into
 * a queue. So what fails where memory is short (ulimit -v, prlimit) has to be something large, whose failure somebody
 * expects: the buffer of a transfer or of a read, a thread's stack.
 *
 *   - A small allocation that fails is repeated after a slice of the reserve was given back to the system.
 *   - A large one fails unless the whole reserve is there; so it tries to fill that up first, and what could be had of
 *     memory is never taken from small ones.
 *
 * The reserve is mapped and never touched: it costs address space, and no memory. Python's allocators are wrapped as
 * tracemalloc does it (PyMem_SetAllocator). They may be called without the interpreter's lock, so there is a lock here.
 */

#define _GNU_SOURCE
#include <Python.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>

#define EXPORTED __attribute__((visibility("default")))

/* Python's own needs and extended attributes (at most 64 KiB) stay below, buffers for content are above. */
#define LARGE_BYTES ((size_t)128 << 10)

/* More than malloc and Python ask the system for at a time, and too little for the stack of a thread, which would be
 * taken from the reserve behind our back. All slices hold what a thousand requests need beside their content. */
#define SLICE_BYTES ((size_t)2 << 20)
#define SLICES 16

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *slices[SLICES];
static atomic_uint held;

static PyMemAllocatorEx raw;
static PyObjectArenaAllocator arenas;

/* Gives a slice back; false where none is left. */
static bool give_back(void)
{
    bool given;

    pthread_mutex_lock(&lock);
    given = held > 0;
    if (given)
        munmap(slices[--held], SLICE_BYTES);
    pthread_mutex_unlock(&lock);
    return given;
}

static bool fill_up(void)
{
    bool is_whole;

    if (held == SLICES)
        return true;
    pthread_mutex_lock(&lock);
    while (held < SLICES) {
        void *slice = mmap(NULL, SLICE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (slice == MAP_FAILED)
            break;
        slices[held++] = slice;
    }
    is_whole = held == SLICES;
    pthread_mutex_unlock(&lock);
    return is_whole;
}

/* The value of *attempt*, which is a pointer, by the rules at the top of this file. */
#define ALLOCATED(size, attempt)                                                                                       \
    do {                                                                                                               \
        void *memory;                                                                                                  \
                                                                                                                       \
        if ((size) >= LARGE_BYTES)                                                                                     \
            return fill_up() ? (attempt) : NULL;                                                                       \
        while (!(memory = (attempt)) && give_back())                                                                   \
            ;                                                                                                          \
        return memory;                                                                                                 \
    } while (0)

static void *reserving_malloc(void *context, size_t size)
{
    ALLOCATED(size, raw.malloc(context, size));
}

static void *reserving_calloc(void *context, size_t count, size_t size)
{
    ALLOCATED(count * size, raw.calloc(context, count, size));
}

static void *reserving_realloc(void *context, void *old, size_t size)
{
    ALLOCATED(size, raw.realloc(context, old, size));
}

static void *reserving_arena(void *context, size_t size)
{
    ALLOCATED(size, arenas.alloc(context, size));
}

/* From now on; to be called once, before there are threads. False where there is no memory for it. */
EXPORTED bool imagefs_keep_reserve(void)
{
    PyMemAllocatorEx reserving_raw;
    PyObjectArenaAllocator reserving_arenas;

    PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &raw);
    PyObject_GetArenaAllocator(&arenas);
    reserving_raw = (PyMemAllocatorEx){raw.ctx, reserving_malloc, reserving_calloc, reserving_realloc, raw.free};
    reserving_arenas = (PyObjectArenaAllocator){arenas.ctx, reserving_arena, arenas.free};
    PyMem_SetAllocator(PYMEM_DOMAIN_RAW, &reserving_raw);
    PyObject_SetArenaAllocator(&reserving_arenas);
    return fill_up();
}

/* Whether *size* bytes can be had now: what is allocated next, with the interpreter's lock held, finds them. */
bool imagefs_has_memory(size_t size)
{
    void *memory = PyMem_RawMalloc(size);

    PyMem_RawFree(memory);
    return memory != NULL;
}
