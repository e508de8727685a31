/* Stands between a process and its C library: disk errors, slow syncs, a jumping clock, and the record of a power cut.
 *
 * Loaded with LD_PRELOAD into test processes only (tests/faults/preload.py builds it and writes what it reads). Three
 * variables of the environment say what it does; without the first it does nothing:
 *
 *   KRAFT_FAULTS_ROOT     the node's folder; files elsewhere are left alone, and so are *.log files beside the folders
 *   KRAFT_FAULTS_CONTROL  a mapped file of int64 (struct control), written by the harness while the process runs
 *   KRAFT_FAULTS_JOURNAL  a folder: every change below the root is noted there BEFORE it is made, with what it
 *                         overwrites, and every sync when it begins and when it has succeeded. The harness can so
 *                         undo, after kill -9, whatever a power cut could have taken (tests/faults/power_cut.py)
 *
 * The clock: CLOCK_REALTIME only; monotonic time is never touched (S20).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct area {
    int64_t write_errno;   /* 0: writes succeed */
    int64_t sync_errno;    /* 0: syncs succeed */
    int64_t sync_delay_us; /* before each sync */
    int64_t short_writes;  /* with write_errno: the first half of each write is made before the error */
    int64_t is_full;       /* statvfs tells that nothing is free */
};
struct control {
    int64_t clock_offset_ms;
    struct area area[2]; /* 0: the logs' data, 1: the metadata */
    int64_t failures;    /* how many calls were failed or delayed: a fault that hit nothing proves nothing */
};
enum { WRITE = 1, TRUNCATE, SYNC_BEGIN, SYNC_END, CREATE, RENAME, UNLINK, MAKE_DIRECTORY, REMOVE_DIRECTORY };

/* One entry: this, then `first_bytes` and `second_bytes` of paths or of overwritten content. */
struct entry {
    uint32_t magic, kind;
    uint64_t sequence, inode, parent;
    int64_t offset, length, old_size, saved;
    uint32_t first_bytes, second_bytes;
};
#define MAGIC 0x4b524654u

static char root[PATH_MAX];
static size_t root_bytes;
static char journal_folder[PATH_MAX];
static int journal = -1;
static struct control *control;
static atomic_ulong sequence, saved_files;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

#define NEXT(name, type, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("KRAFT_FAULTS_ROOT"), *control_file = getenv("KRAFT_FAULTS_CONTROL"),
               *journal_path = getenv("KRAFT_FAULTS_JOURNAL");
    if (!folder) return;
    if (control_file) {
        int file = open(control_file, O_RDWR | O_CLOEXEC);
        void *at = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (at == MAP_FAILED) {
            fprintf(stderr, "failing_calls: %s cannot be mapped: %s\n", control_file, strerror(errno));
            _exit(99);
        }
        close(file);
        control = at;
    }
    if (journal_path) {
        char name[PATH_MAX + 16];
        snprintf(journal_folder, sizeof journal_folder, "%s", journal_path);
        snprintf(name, sizeof name, "%s/journal", journal_path);
        int file = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (file < 0) {
            fprintf(stderr, "failing_calls: %s: %s\n", name, strerror(errno));
            _exit(99);
        }
        /* Far from what a test of descriptor exhaustion counts from below. */
        int high = fcntl(file, F_DUPFD_CLOEXEC, 900);
        if (high >= 0) close(file);
        journal = high >= 0 ? high : file;
        /* The next life of the process goes on with the same journal: its numbers are higher. */
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        sequence = (unsigned long)now.tv_sec * 1000000000ul + (unsigned long)now.tv_nsec;
    }
    snprintf(root, sizeof root, "%s/", folder);
    root_bytes = strlen(root);
}

/* --- which file it is ----------------------------------------------------------------------------------------------- */

static int area_of_path(const char *path) {
    if (!root_bytes || strncmp(path, root, root_bytes) != 0) return -1;
    const char *rest = path + root_bytes;
    if (strncmp(rest, "metadata", 8) == 0) return 1;
    if (strncmp(rest, "data", 4) == 0) return 0;
    return strncmp(rest, "meta.properties", 15) == 0 ? 1 : -1;
}

static int path_of(int descriptor, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t bytes = readlink(link, path, PATH_MAX - 1);
    if (bytes < 0) return -1;
    path[bytes] = 0;
    return 0;
}

/* What a descriptor is, remembered until it is closed: 0 not looked, 1 not ours, 2 data, 3 metadata. */
#define DESCRIPTORS 65536
static _Atomic unsigned char known[DESCRIPTORS];

static int area_of(int descriptor) {
    if (!root_bytes || descriptor < 0) return -1;
    if (descriptor < DESCRIPTORS && known[descriptor]) return (int)known[descriptor] - 2;
    int before = errno;
    char path[PATH_MAX];
    int area = path_of(descriptor, path) ? -1 : area_of_path(path);
    if (descriptor < DESCRIPTORS) known[descriptor] = (unsigned char)(area + 2);
    errno = before;
    return area;
}

static void absolute(int folder, const char *path, char *whole) {
    char base[PATH_MAX];
    if (path[0] == '/') {
        snprintf(whole, PATH_MAX, "%s", path);
        return;
    }
    if (folder == AT_FDCWD ? !getcwd(base, sizeof base) : path_of(folder, base)) base[0] = 0;
    while (path[0] == '.' && path[1] == '/') path += 2;
    if (snprintf(whole, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) whole[0] = 0;
}

static uint64_t inode_of_parent(const char *path) {
    char folder[PATH_MAX];
    struct stat status;
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash) *slash = 0;
    return stat(folder, &status) ? 0 : status.st_ino;
}

/* --- the journal ---------------------------------------------------------------------------------------------------- */

static ssize_t raw_write(int descriptor, const struct iovec *parts, int count) {
    NEXT("writev", ssize_t, int, const struct iovec *, int);
    return real(descriptor, parts, count);
}

static void note(struct entry *entry, const void *first, const void *second) {
    entry->magic = MAGIC;
    entry->sequence = atomic_fetch_add(&sequence, 1) + 1;
    struct iovec parts[3] = {{entry, sizeof *entry}, {(void *)first, entry->first_bytes}, {(void *)second, entry->second_bytes}};
    ssize_t whole = (ssize_t)(sizeof *entry + entry->first_bytes + entry->second_bytes);
    if (raw_write(journal, parts, 3) != whole) {
        fprintf(stderr, "failing_calls: the journal of the power cut cannot be written: %s\n", strerror(errno));
        _exit(99);
    }
}

static ssize_t raw_pread(int descriptor, void *into, size_t bytes, off_t at) {
    NEXT("pread64", ssize_t, int, void *, size_t, off_t);
    return real(descriptor, into, bytes, at);
}

/* The old bytes of [at, at + bytes), through a descriptor that can be read. */
static uint32_t old_bytes(int descriptor, off_t at, int64_t bytes, char **into) {
    *into = NULL;
    if (bytes <= 0 || !(*into = malloc((size_t)bytes))) return 0;
    ssize_t got = raw_pread(descriptor, *into, (size_t)bytes, at);
    if (got < 0) {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
        int readable = open(link, O_RDONLY | O_CLOEXEC);
        got = readable < 0 ? 0 : raw_pread(readable, *into, (size_t)bytes, at);
        if (readable >= 0) close(readable);
    }
    return got < 0 ? 0 : (uint32_t)got;
}

static void note_change(int descriptor, uint32_t kind, off_t at, int64_t length) {
    struct stat status;
    if (fstat(descriptor, &status)) return;
    if (at < 0) at = status.st_size; /* append */
    int64_t gone = kind == TRUNCATE ? status.st_size - at : status.st_size - at < length ? status.st_size - at : length;
    char *content;
    struct entry entry = {.kind = kind, .inode = status.st_ino, .offset = at, .length = length, .old_size = status.st_size};
    entry.first_bytes = old_bytes(descriptor, at, gone, &content);
    note(&entry, content, NULL);
    free(content);
}

/* Keeps the file at `path` alive under a number, so that its name can be given back. */
static int64_t save(const char *path) {
    char name[PATH_MAX + 32];
    int64_t number = (int64_t)atomic_fetch_add(&saved_files, 1) + 1;
    snprintf(name, sizeof name, "%s/%ld.%ld", journal_folder, (long)getpid(), (long)number);
    return link(path, name) ? 0 : (int64_t)getpid() << 32 | number;
}

static void note_name(uint32_t kind, const char *path, const char *other) {
    struct stat status;
    struct entry entry = {.kind = kind, .first_bytes = (uint32_t)strlen(path)};
    if (other) entry.second_bytes = (uint32_t)strlen(other);
    entry.parent = inode_of_parent(other ? other : path);
    if (kind != CREATE && kind != MAKE_DIRECTORY && !lstat(path, &status)) entry.inode = status.st_ino;
    if (kind == UNLINK) entry.saved = save(path);
    if (kind == RENAME && !lstat(other, &status)) entry.saved = S_ISREG(status.st_mode) ? save(other) : 0;
    note(&entry, path, other);
}

/* --- files ---------------------------------------------------------------------------------------------------------- */

static int failed(int64_t code) {
    control->failures++;
    errno = (int)code;
    return -1;
}

/* How much of a write is let through: all of it, or less; -1 with errno. */
static ssize_t admitted(int area, size_t bytes) {
    struct area *now = control ? &control->area[area] : NULL;
    if (!now || !now->write_errno) return (ssize_t)bytes;
    if (now->short_writes && bytes > 1) {
        control->failures++;
        return (ssize_t)(bytes / 2);
    }
    return failed(now->write_errno);
}

#define CHANGING(noting) \
    int journaled = journal >= 0; \
    if (journaled) { \
        pthread_mutex_lock(&order); \
        noting; \
    }
#define CHANGED \
    if (journaled) { \
        int after = errno; \
        pthread_mutex_unlock(&order); \
        errno = after; \
    }

ssize_t write(int descriptor, const void *data, size_t bytes) {
    NEXT("write", ssize_t, int, const void *, size_t);
    int area = area_of(descriptor);
    if (area < 0) return real(descriptor, data, bytes);
    ssize_t some = admitted(area, bytes);
    if (some < 0) return -1;
    int flags = fcntl(descriptor, F_GETFL);
    CHANGING(note_change(descriptor, WRITE, flags & O_APPEND ? -1 : lseek(descriptor, 0, SEEK_CUR), some));
    ssize_t made = real(descriptor, data, (size_t)some);
    CHANGED;
    return made;
}

ssize_t pwrite64(int descriptor, const void *data, size_t bytes, off_t at) {
    NEXT("pwrite64", ssize_t, int, const void *, size_t, off_t);
    int area = area_of(descriptor);
    if (area < 0) return real(descriptor, data, bytes, at);
    ssize_t some = admitted(area, bytes);
    if (some < 0) return -1;
    CHANGING(note_change(descriptor, WRITE, at, some));
    ssize_t made = real(descriptor, data, (size_t)some, at);
    CHANGED;
    return made;
}
ssize_t pwrite(int descriptor, const void *data, size_t bytes, off_t at) { return pwrite64(descriptor, data, bytes, at); }

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    if (area_of(descriptor) < 0) return raw_write(descriptor, parts, count);
    ssize_t all = 0;
    for (int part = 0; part < count; part++) {
        ssize_t made = write(descriptor, parts[part].iov_base, parts[part].iov_len);
        if (made < 0) return all ? all : made;
        all += made;
        if ((size_t)made < parts[part].iov_len) break;
    }
    return all;
}

ssize_t pwritev64(int descriptor, const struct iovec *parts, int count, off_t at) {
    NEXT("pwritev64", ssize_t, int, const struct iovec *, int, off_t);
    if (area_of(descriptor) < 0) return real(descriptor, parts, count, at);
    ssize_t all = 0;
    for (int part = 0; part < count; part++) {
        ssize_t made = pwrite64(descriptor, parts[part].iov_base, parts[part].iov_len, at + all);
        if (made < 0) return all ? all : made;
        all += made;
        if ((size_t)made < parts[part].iov_len) break;
    }
    return all;
}
ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t at) {
    return pwritev64(descriptor, parts, count, at);
}

int ftruncate64(int descriptor, off_t size) {
    NEXT("ftruncate64", int, int, off_t);
    int area = area_of(descriptor);
    if (area < 0) return real(descriptor, size);
    if (control && control->area[area].write_errno == EIO) return failed(EIO);
    CHANGING(note_change(descriptor, TRUNCATE, size, 0));
    int done = real(descriptor, size);
    CHANGED;
    return done;
}
int ftruncate(int descriptor, off_t size) { return ftruncate64(descriptor, size); }

static int synced(int descriptor, int (*real)(int)) {
    int area = area_of(descriptor);
    if (area < 0) return real(descriptor);
    if (control) {
        struct area *now = &control->area[area];
        if (now->sync_delay_us > 0) {
            control->failures++;
            struct timespec delay = {now->sync_delay_us / 1000000, now->sync_delay_us % 1000000 * 1000};
            nanosleep(&delay, NULL);
        }
        if (now->sync_errno) return failed(now->sync_errno);
    }
    struct stat status;
    struct entry began = {.kind = SYNC_BEGIN};
    if (journal >= 0 && !fstat(descriptor, &status)) {
        began.inode = status.st_ino;
        pthread_mutex_lock(&order);
        note(&began, NULL, NULL);
        pthread_mutex_unlock(&order);
    }
    int done = real(descriptor);
    if (!done && began.sequence) {
        struct entry ended = {.kind = SYNC_END, .inode = began.inode, .offset = (int64_t)began.sequence};
        note(&ended, NULL, NULL);
    }
    return done;
}
int fsync(int descriptor) {
    NEXT("fsync", int, int);
    return synced(descriptor, real);
}
int fdatasync(int descriptor) {
    NEXT("fdatasync", int, int);
    return synced(descriptor, real);
}
int close(int descriptor) {
    NEXT("close", int, int);
    if (descriptor >= 0 && descriptor < DESCRIPTORS) known[descriptor] = 0;
    if (descriptor == journal && journal >= 0) return 0;
    return real(descriptor);
}

static int opened(int folder, const char *path, int flags, mode_t mode) {
    NEXT("openat64", int, int, const char *, int, ...);
    char whole[PATH_MAX];
    if (!root_bytes || !(flags & (O_CREAT | O_TRUNC))) return real(folder, path, flags, mode);
    absolute(folder, path, whole);
    int area = area_of_path(whole);
    if (area < 0) return real(folder, path, flags, mode);
    int exists = !access(whole, F_OK);
    if (!exists && control && control->area[area].write_errno && (flags & O_CREAT)) return failed(control->area[area].write_errno);
    if (journal < 0) return real(folder, path, flags, mode);
    pthread_mutex_lock(&order);
    if (!exists && (flags & O_CREAT)) note_name(CREATE, whole, NULL);
    if (exists && (flags & O_TRUNC)) {
        int before = real(AT_FDCWD, whole, O_RDONLY | O_CLOEXEC, 0);
        if (before >= 0) {
            note_change(before, TRUNCATE, 0, 0);
            close(before);
        }
    }
    int descriptor = real(folder, path, flags, mode);
    int after = errno;
    pthread_mutex_unlock(&order);
    errno = after;
    return descriptor;
}
#define MODE \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }
int open64(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int open(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE return opened(folder, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE return opened(folder, path, flags, mode); }

/* --- names ---------------------------------------------------------------------------------------------------------- */

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    NEXT("renameat", int, int, const char *, int, const char *);
    char whole_from[PATH_MAX], whole_to[PATH_MAX];
    if (!root_bytes) return real(from_folder, from, to_folder, to);
    absolute(from_folder, from, whole_from);
    absolute(to_folder, to, whole_to);
    int area = area_of_path(whole_to);
    if (area < 0) return real(from_folder, from, to_folder, to);
    if (control && control->area[area].write_errno == EIO) return failed(EIO);
    if (access(whole_from, F_OK)) return real(from_folder, from, to_folder, to);
    CHANGING(note_name(RENAME, whole_from, whole_to));
    int done = real(from_folder, from, to_folder, to);
    CHANGED;
    return done;
}
int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

int unlinkat(int folder, const char *path, int flags) {
    NEXT("unlinkat", int, int, const char *, int);
    char whole[PATH_MAX];
    if (!root_bytes) return real(folder, path, flags);
    absolute(folder, path, whole);
    if (area_of_path(whole) < 0 || faccessat(AT_FDCWD, whole, F_OK, AT_SYMLINK_NOFOLLOW)) return real(folder, path, flags);
    int is_directory = flags & AT_REMOVEDIR;
    CHANGING(note_name(is_directory ? REMOVE_DIRECTORY : UNLINK, whole, NULL));
    int done = real(folder, path, flags);
    CHANGED;
    return done;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int folder, const char *path, mode_t mode) {
    NEXT("mkdirat", int, int, const char *, mode_t);
    char whole[PATH_MAX];
    if (!root_bytes) return real(folder, path, mode);
    absolute(folder, path, whole);
    int area = area_of_path(whole);
    if (area < 0 || !access(whole, F_OK)) return real(folder, path, mode);
    if (control && control->area[area].write_errno) return failed(control->area[area].write_errno);
    CHANGING(note_name(MAKE_DIRECTORY, whole, NULL));
    int done = real(folder, path, mode);
    CHANGED;
    return done;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

static void fill(int area, struct statvfs *status) {
    if (area >= 0 && control && control->area[area].is_full) status->f_bfree = status->f_bavail = 0;
}
int statvfs64(const char *path, struct statvfs64 *status) {
    NEXT("statvfs64", int, const char *, struct statvfs64 *);
    char whole[PATH_MAX];
    int done = real(path, status);
    if (!root_bytes || done) return done;
    absolute(AT_FDCWD, path, whole);
    fill(area_of_path(whole), (struct statvfs *)status);
    return done;
}
int statvfs(const char *path, struct statvfs *status) { return statvfs64(path, (struct statvfs64 *)status); }
int fstatvfs64(int descriptor, struct statvfs64 *status) {
    NEXT("fstatvfs64", int, int, struct statvfs64 *);
    int done = real(descriptor, status);
    if (!done) fill(area_of(descriptor), (struct statvfs *)status);
    return done;
}
int fstatvfs(int descriptor, struct statvfs *status) { return fstatvfs64(descriptor, (struct statvfs64 *)status); }

/* --- the wall clock ------------------------------------------------------------------------------------------------- */

int clock_gettime(clockid_t clock, struct timespec *now) {
    NEXT("clock_gettime", int, clockid_t, struct timespec *);
    int done = real(clock, now);
    if (done || !control || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return done;
    int64_t offset_ms = control->clock_offset_ms;
    now->tv_sec += offset_ms / 1000;
    now->tv_nsec += offset_ms % 1000 * 1000000;
    if (now->tv_nsec >= 1000000000) now->tv_nsec -= 1000000000, now->tv_sec++;
    if (now->tv_nsec < 0) now->tv_nsec += 1000000000, now->tv_sec--;
    return done;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise)) return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *into) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into) *into = now.tv_sec;
    return now.tv_sec;
}
