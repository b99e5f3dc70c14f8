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
    """
    int rc_madvise(uintptr_t address, size_t length, int advice)


def advise(uintptr_t address, const int64_t[:, ::1] runs, int advice) -> int:
    """Give the same advice (madvise) on each run (offset from ``address``, length) of a mapping.

    Returns
    -------
    int
        0, the error number of the first run that failed, or -1 where the system has no such call.
    """
    cdef Py_ssize_t k
    cdef int code = 0
    with nogil:
        for k in range(runs.shape[0]):
            code = rc_madvise(address + <uintptr_t>runs[k, 0], <size_t>runs[k, 1], advice)
            if code != 0:
                break
    return code
