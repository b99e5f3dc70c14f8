"""Owner of the function table: which instruction set the kernels use."""

import os

cdef extern from "dispatch.h" nogil:
    const rc_table *const *rc_tables()

cdef extern from * nogil:
    """
    #ifdef NDEBUG
    #define RC_CHECKED 0
    #else
    #define RC_CHECKED 1
    #endif
    """
    int RC_CHECKED

cdef const rc_table *_active = NULL


def isa_available() -> tuple[str, ...]:
    """Return the instruction sets that this processor runs, best first.

    Returns
    -------
    tuple of str
        Some of "avx512" (with VPOPCNTDQ), "avx2", "base".

    Examples
    --------
    >>> import rashomon_core as rc
    >>> rc.isa_available()[-1]
    'base'
    """
    cdef const rc_table *const *tables = rc_tables()
    cdef Py_ssize_t i = 0
    names = []
    while tables[i] != NULL:
        names.append(tables[i].name.decode())
        i += 1
    return tuple(names)


def is_debug_build() -> bool:
    """Return whether bounds checks and C assertions were compiled in (``RASHOMON_CORE_DEBUG=1``)."""
    return RC_CHECKED != 0


def isa_active() -> str:
    """Return the instruction set that kernels use now (chosen at first use, or by ``RASHOMON_CORE_ISA``)."""
    return leaves().name.decode()


def isa_select(name: str | None = None) -> str:
    """Use one instruction set from now on, in every thread; None returns to the default. Returns its name.

    Raises
    ------
    ValueError
        If this processor does not run it.
    """
    global _active
    cdef const rc_table *const *tables = rc_tables()
    cdef Py_ssize_t i = 0
    source = ""
    if name is None:
        name = os.environ.get("RASHOMON_CORE_ISA") or None
        source = " (from RASHOMON_CORE_ISA)"
    while tables[i] != NULL:
        if name is None or tables[i].name.decode() == name:
            _active = tables[i]
            return _active.name.decode()
        i += 1
    raise ValueError(
        f"instruction set {name!r}{source} is not available here. Fix: one of {', '.join(isa_available())}"
    )


cdef const rc_table *leaves() except NULL:
    if _active == NULL:
        isa_select()
    return _active
