"""Calls of the system about many parts of a file, made in one go without the interpreter's lock.

Between two threads that read, taking the lock for each part costs several times what the call itself does.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uintptr_t

cdef extern from * nogil:
    """
    #include <stddef.h>
    #include <stdint.h>
    #if defined(__linux__)
    #include <errno.h>
    #include <sys/mman.h>
    static int rc_madvise(uintptr_t address, size_t length, int advice) {
        return madvise((void *)address, length, advice) ? errno : 0;
    }
    #else
    static int rc_madvise(uintptr_t address, size_t length, int advice) {
        (void)address, (void)length, (void)advice;
        return -1;
    }
    #endif
    #if defined(_WIN32)
    static int rc_read(int fd, uintptr_t out, int64_t length, int64_t at) {
        (void)fd, (void)out, (void)length, (void)at;
        return 0;
    }
    #else
    #include <unistd.h>
    static int rc_read(int fd, uintptr_t out, int64_t length, int64_t at) { /* 1: all of it is there */
        while (length > 0) {
            ssize_t count = pread(fd, (void *)out, length < 1 << 30 ? (size_t)length : (size_t)1 << 30, (off_t)at);
            if (count <= 0) return 0;
            out += (uintptr_t)count, at += count, length -= count;
        }
        return 1;
    }
    #endif
    """
    int rc_madvise(uintptr_t address, size_t length, int advice)
    int rc_read(int fd, uintptr_t out, int64_t length, int64_t at)


def advise(uintptr_t address, const int64_t[::1] offsets, int64_t length, int64_t page, int advice) -> int:
    """Give the same advice (madvise) on the pages of runs of one length at offsets from ``address``, a page's start.

    Returns
    -------
    int
        0, the error number of the first run that failed, or -1 where the system has no such call.
    """
    cdef Py_ssize_t k
    cdef int64_t first
    cdef int code = 0
    with nogil:
        for k in range(offsets.shape[0]):
            first = offsets[k] // page * page
            code = rc_madvise(address + <uintptr_t>first, <size_t>(offsets[k] + length - first), advice)
            if code != 0:
                break
    return code


def read_runs(int fd, const int64_t[::1] offsets, int64_t length, const int64_t[::1] places) -> int:
    """Read runs of one length at offsets of a file to addresses in memory.

    Returns
    -------
    int
        How many were read; the next one could not be: a file that ends, a disk that fails, a signal, or a system where
        reading at an offset takes more than one call (Windows).
    """
    cdef Py_ssize_t k = 0
    with nogil:
        while k < offsets.shape[0] and rc_read(fd, <uintptr_t>places[k], length, offsets[k]):
            k += 1
    return k
