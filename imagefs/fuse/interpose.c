/*
 * Adds to pyfuse3 what it does not offer: copy_file_range(2), and to learn that a request was interrupted.
 *
 * This library is loaded with RTLD_GLOBAL before pyfuse3, so that pyfuse3's call of libfuse's fuse_session_new binds
 * to the function of that name in here (ld.so(8): the global scope comes before a library's own dependencies). It
 * copies the table of operations that pyfuse3 passes, changes the copy, and calls libfuse's function with it:
 *
 *   - copy_file_range is added and calls the function that Python registered for it;
 *   - each operation that is replied to first gives its request a number and registers for its interrupt; then it
 *     calls pyfuse3's handler. The handler only creates a coroutine, whose first step runs directly after the
 *     handler, before any other request is processed, and so finds its request's number in imagefs_current;
 *   - init asks the kernel for what lets requests wait without holding up others.
 *
 * In the same way pyfuse3's replies with a name pass through here: pyfuse3 has one number for what the kernel calls an
 * inode and for what stat(2) shows, and where these differ, it is given the kernel's as the inode's generation.
 *
 * So do the requests that it receives: all of them into one buffer, which is there from the first one on. pyfuse3 gives
 * each of its tasks a buffer of a mebibyte, and ends the mount where there is no memory for one more. Nor can it answer
 * a write that it has no memory for: that is done here. Smaller needs are what reserve.c is for.
 *
 * No policy is in here: what an interrupt or a copy means is decided in requests.py.
 *
 * All of it runs on the one thread that processes requests, which holds Python's global interpreter lock: pyfuse3
 * does not release it. So nothing here needs a lock.
 */

#define _GNU_SOURCE
#define FUSE_USE_VERSION 34

#include <dlfcn.h>
#include <errno.h>
#include <fuse3/fuse_lowlevel.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))

/*
 * From 3.17 on, fuse_session_new is a macro for fuse_session_new_versioned, and the layout of struct fuse_file_info
 * is another. Exporting only the name that belongs to the headers this is compiled with makes sure that no pyfuse3
 * compiled with the other layout binds to it.
 */
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
#define SESSION_NEW fuse_session_new_versioned
#define SESSION_NEW_NAME "fuse_session_new_versioned"
#else
#define SESSION_NEW fuse_session_new
#define SESSION_NEW_NAME "fuse_session_new"
#endif

/* ---- What Python sees: requests.py and interpose.py ---- */

/* A request's number, counted from 1 on and never used again. */
typedef uintptr_t request_number;

typedef void (*interrupted_function)(request_number number);
typedef void (*copy_function)(request_number number, fuse_req_t req, uint64_t ino_in, int64_t off_in, uint64_t fh_in,
                              uint64_t ino_out, int64_t off_out, uint64_t fh_out, uint64_t length, int flags);

/* The request whose handler was called last. Who reads it sets it to 0, so that nobody takes it for its own later. */
EXPORTED request_number imagefs_current;

/* The thread that made this request, 0 where it cannot be seen from here; and what the kernel calls its lock owner, one
 * for each table of descriptors, 0 where the request has none. */
EXPORTED int32_t imagefs_current_thread;
EXPORTED uint64_t imagefs_current_owner;

/* How many sessions were made through this library. */
EXPORTED unsigned int imagefs_sessions;

static interrupted_function call_interrupted;
static copy_function call_copy;

EXPORTED void imagefs_register(interrupted_function interrupted, copy_function copy)
{
    call_interrupted = interrupted;
    call_copy = copy;
}

/* ---- libfuse, as pyfuse3 is linked to it ---- */

static struct {
    __typeof__(&SESSION_NEW) session_new;
    __typeof__(&fuse_req_interrupt_func) req_interrupt_func;
    __typeof__(&fuse_req_ctx) req_ctx;
    __typeof__(&fuse_reply_write) reply_write;
    __typeof__(&fuse_reply_err) reply_err;
    __typeof__(&fuse_reply_entry) reply_entry;
    __typeof__(&fuse_add_direntry_plus) add_direntry_plus;
    __typeof__(&fuse_session_receive_buf) session_receive_buf;
    __typeof__(&fuse_session_process_buf) session_process_buf;
} libfuse;

/*
 * Looks the functions up as the module that contains *caller* would find them among its own dependencies: whatever
 * libfuse that is and wherever it lies, its functions work on the same session. This library is linked to none.
 */
static bool find_libfuse(const void *caller)
{
    Dl_info module;
    void *handle;

    if (!dladdr(caller, &module) || !(handle = dlopen(module.dli_fname, RTLD_LAZY | RTLD_NOLOAD)))
        return false;
    libfuse.session_new = (__typeof__(libfuse.session_new))dlsym(handle, SESSION_NEW_NAME);
    libfuse.req_interrupt_func = (__typeof__(libfuse.req_interrupt_func))dlsym(handle, "fuse_req_interrupt_func");
    libfuse.req_ctx = (__typeof__(libfuse.req_ctx))dlsym(handle, "fuse_req_ctx");
    libfuse.reply_write = (__typeof__(libfuse.reply_write))dlsym(handle, "fuse_reply_write");
    libfuse.reply_err = (__typeof__(libfuse.reply_err))dlsym(handle, "fuse_reply_err");
    libfuse.reply_entry = (__typeof__(libfuse.reply_entry))dlsym(handle, "fuse_reply_entry");
    libfuse.add_direntry_plus = (__typeof__(libfuse.add_direntry_plus))dlsym(handle, "fuse_add_direntry_plus");
    libfuse.session_receive_buf = (__typeof__(libfuse.session_receive_buf))dlsym(handle, "fuse_session_receive_buf");
    libfuse.session_process_buf = (__typeof__(libfuse.session_process_buf))dlsym(handle, "fuse_session_process_buf");
    dlclose(handle); /* RTLD_NOLOAD has counted one more user */
    return libfuse.session_new && libfuse.req_interrupt_func && libfuse.req_ctx && libfuse.reply_write &&
           libfuse.reply_err && libfuse.reply_entry && libfuse.add_direntry_plus && libfuse.session_receive_buf &&
           libfuse.session_process_buf;
}

/* Both return 0, or a negative errno where the kernel does not wait for the reply any more. */

EXPORTED int imagefs_reply_write(fuse_req_t req, uint64_t count)
{
    return libfuse.reply_write(req, count);
}

EXPORTED int imagefs_reply_err(fuse_req_t req, int error)
{
    return libfuse.reply_err(req, error);
}

/* ---- The operations ---- */

static struct fuse_lowlevel_ops given; /* as pyfuse3 passed them */

/* Called by libfuse when the kernel interrupts a request that was not replied to yet (FUSE_INTERRUPT). */
static void on_interrupt(fuse_req_t req, void *number)
{
    (void)req;
    if (call_interrupted)
        call_interrupted((request_number)number);
}

static void begin(fuse_req_t req, uint64_t owner)
{
    static request_number last;

    imagefs_current = ++last;
    imagefs_current_thread = libfuse.req_ctx(req)->pid;
    imagefs_current_owner = owner;
    libfuse.req_interrupt_func(req, on_interrupt, (void *)last);
}

/* All operations of fuse_lowlevel.h that pyfuse3 implements and that are replied to, even those that never wait: a
 * coroutine that looks at imagefs_current must find its own request there. The second column is the lock owner. */
#define OPERATIONS(_)                                                                                                  \
    _(lookup, 0, (fuse_req_t req, fuse_ino_t parent, const char *name), (req, parent, name))                           \
    _(getattr, 0, (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi), (req, ino, fi))                         \
    _(setattr, 0, (fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi),          \
      (req, ino, attr, to_set, fi))                                                                                    \
    _(readlink, 0, (fuse_req_t req, fuse_ino_t ino), (req, ino))                                                       \
    _(mknod, 0, (fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev),                        \
      (req, parent, name, mode, rdev))                                                                                 \
    _(mkdir, 0, (fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode), (req, parent, name, mode))         \
    _(unlink, 0, (fuse_req_t req, fuse_ino_t parent, const char *name), (req, parent, name))                           \
    _(rmdir, 0, (fuse_req_t req, fuse_ino_t parent, const char *name), (req, parent, name))                            \
    _(symlink, 0, (fuse_req_t req, const char *link, fuse_ino_t parent, const char *name), (req, link, parent, name))  \
    _(rename, 0,                                                                                                       \
      (fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,                 \
       unsigned int flags),                                                                                            \
      (req, parent, name, newparent, newname, flags))                                                                  \
    _(link, 0, (fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname),                            \
      (req, ino, newparent, newname))                                                                                  \
    _(open, 0, (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi), (req, ino, fi))                            \
    _(read, 0, (fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi),                    \
      (req, ino, size, off, fi))                                                                                       \
    _(write, fi->lock_owner,                                                                                           \
      (fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off, struct fuse_file_info *fi),            \
      (req, ino, buf, size, off, fi))                                                                                  \
    _(write_buf, fi->lock_owner,                                                                                       \
      (fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *bufv, off_t off, struct fuse_file_info *fi),                \
      (req, ino, bufv, off, fi))                                                                                       \
    _(flush, fi->lock_owner, (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi), (req, ino, fi))              \
    _(release, 0, (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi), (req, ino, fi))                         \
    _(fsync, 0, (fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi), (req, ino, datasync, fi))   \
    _(opendir, 0, (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi), (req, ino, fi))                         \
    _(readdirplus, 0, (fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi),             \
      (req, ino, size, off, fi))                                                                                       \
    _(releasedir, 0, (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi), (req, ino, fi))                      \
    _(fsyncdir, 0, (fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi),                          \
      (req, ino, datasync, fi))                                                                                        \
    _(statfs, 0, (fuse_req_t req, fuse_ino_t ino), (req, ino))                                                         \
    _(setxattr, 0,                                                                                                     \
      (fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags),                   \
      (req, ino, name, value, size, flags))                                                                            \
    _(getxattr, 0, (fuse_req_t req, fuse_ino_t ino, const char *name, size_t size), (req, ino, name, size))            \
    _(listxattr, 0, (fuse_req_t req, fuse_ino_t ino, size_t size), (req, ino, size))                                   \
    _(removexattr, 0, (fuse_req_t req, fuse_ino_t ino, const char *name), (req, ino, name))                            \
    _(access, 0, (fuse_req_t req, fuse_ino_t ino, int mask), (req, ino, mask))                                         \
    _(create, 0, (fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi),        \
      (req, parent, name, mode, fi))                                                                                   \
    _(poll, 0, (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct fuse_pollhandle *handle),            \
      (req, ino, fi, handle))

#define DEFINE_WRAPPED(operation, owner, parameters, arguments)                                                        \
    static void wrapped_##operation parameters                                                                         \
    {                                                                                                                  \
        begin(req, owner);                                                                                             \
        given.operation arguments;                                                                                     \
    }

#define WRAP(operation, owner, parameters, arguments)                                                                  \
    if (given.operation)                                                                                               \
        changed.operation = wrapped_##operation;

OPERATIONS(DEFINE_WRAPPED)

bool imagefs_has_memory(size_t size); /* reserve.c */

/* What a bytes object takes beside its bytes, and more. */
#define OBJECT_BYTES 128

static __typeof__(given.write_buf) write_with_memory;

/* pyfuse3's handler copies the bytes before there is a coroutine that could answer. They come in one piece. */
static void write_buf_with_memory(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *bufv, off_t off,
                                  struct fuse_file_info *fi)
{
    if (imagefs_has_memory(bufv->buf[0].size + OBJECT_BYTES))
        write_with_memory(req, ino, bufv, off, fi);
    else
        libfuse.reply_err(req, ENOMEM);
}

static void added_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in,
                                  fuse_ino_t ino_out, off_t off_out, struct fuse_file_info *fi_out, size_t length,
                                  int flags)
{
    begin(req, 0);
    if (call_copy)
        call_copy(imagefs_current, req, ino_in, off_in, fi_in->fh, ino_out, off_out, fi_out->fh, length, flags);
    else
        libfuse.reply_err(req, EOPNOTSUPP); /* the kernel reads and writes instead; ENOSYS would be for good */
}

/* How many requests that no program waits for directly may be under way: all readahead, and that a file was closed.
 * The kernel's own 12 would be taken by a few reads of an image that does not come, and all others would wait for them.
 * Half of what is answered at once (MAX_REQUESTS in session.py), so that the rest of the tree never waits for these. */
#define MAX_BACKGROUND 500

/*
 * Features of the kernel that pyfuse3 leaves as libfuse has them (fuse_common.h):
 *
 *   - parallel directory operations, off by default: else a lookup that waits makes all others in its directory wait;
 *   - asynchronous direct I/O, on by default: a read with O_DIRECT that is sent so cannot be interrupted, nor can its
 *     program be killed meanwhile;
 *   - splicing requests by way of a pipe, on by default where root may make the pipe large enough: pyfuse3 copies what
 *     is written in any case, and libfuse takes memory for each such request, without which it never answers it;
 *   - the readahead, which the answer to FUSE_INIT can only lower: libfuse repeats what the kernel had when it asked,
 *     and so undoes what root may have set since.
 */
static void changed_init(void *userdata, struct fuse_conn_info *conn)
{
    given.init(userdata, conn);
    conn->want |= conn->capable & FUSE_CAP_PARALLEL_DIROPS;
    conn->want &= ~(unsigned int)(FUSE_CAP_ASYNC_DIO | FUSE_CAP_SPLICE_READ);
    conn->max_readahead = UINT32_MAX;
    conn->max_background = MAX_BACKGROUND;
}

/* ---- What pyfuse3 calls ---- */

static struct fuse_entry_param numbered(const struct fuse_entry_param *entry)
{
    struct fuse_entry_param changed = *entry;

    if (changed.generation) {
        changed.ino = changed.generation;
        changed.generation = 0;
    }
    return changed;
}

EXPORTED int fuse_reply_entry(fuse_req_t req, const struct fuse_entry_param *entry)
{
    struct fuse_entry_param changed = numbered(entry);

    return libfuse.reply_entry(req, &changed);
}

EXPORTED size_t fuse_add_direntry_plus(fuse_req_t req, char *buf, size_t bufsize, const char *name,
                                       const struct fuse_entry_param *entry, off_t off)
{
    struct fuse_entry_param changed = numbered(entry);

    return libfuse.add_direntry_plus(req, buf, bufsize, name, &changed, off);
}

/* The request that was received last. libfuse makes the memory at the first one, and leaves it to whoever calls. */
static struct fuse_buf received;

/*
 * pyfuse3 processes a request directly after it has received it, and its handlers copy what they need before they
 * return. Its own buffer stays as empty as it was, so that it has nothing to free.
 *
 * A request that the kernel has announced may be gone by now, with its program, and an interrupt because its request
 * was answered. As the descriptor does not block (session.py), the whole process does not wait for the next request
 * here. To pyfuse3 it looks as if a signal had come, after which it goes on as before.
 */
EXPORTED int fuse_session_receive_buf(struct fuse_session *se, struct fuse_buf *buf)
{
    int result = libfuse.session_receive_buf(se, &received);

    (void)buf;
    return result == -EAGAIN ? -EINTR : result;
}

EXPORTED void fuse_session_process_buf(struct fuse_session *se, const struct fuse_buf *buf)
{
    (void)buf;
    libfuse.session_process_buf(se, &received);
}

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
EXPORTED struct fuse_session *fuse_session_new_versioned(struct fuse_args *args, const struct fuse_lowlevel_ops *op,
                                                         size_t op_size, struct libfuse_version *version,
                                                         void *userdata)
#define ARGUMENTS(op, op_size) (args, op, op_size, version, userdata)
#else
EXPORTED struct fuse_session *fuse_session_new(struct fuse_args *args, const struct fuse_lowlevel_ops *op,
                                               size_t op_size, void *userdata)
#define ARGUMENTS(op, op_size) (args, op, op_size, userdata)
#endif
{
    struct fuse_lowlevel_ops changed;

    if (!find_libfuse(__builtin_return_address(0))) {
        fprintf(stderr, "imagefs: libfuse's functions were not found.\n");
        return NULL;
    }
    memset(&given, 0, sizeof given);
    memcpy(&given, op, op_size < sizeof given ? op_size : sizeof given);
    if (given.write_buf) {
        write_with_memory = given.write_buf;
        given.write_buf = write_buf_with_memory;
    }
    changed = given;
    OPERATIONS(WRAP)
    changed.init = changed_init;
    changed.copy_file_range = added_copy_file_range;
    imagefs_sessions++;
    return libfuse.session_new ARGUMENTS(&changed, sizeof changed);
}
