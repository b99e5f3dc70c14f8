from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint64_t

cdef extern from "dispatch.h" nogil:
    enum: RC_GROUP
    enum: RC_BLOCK
    enum: RC_TALLY
    enum: RC_BATCH
    enum: RC_FEW
    enum: RC_PROBA
    enum: RC_LOG_PROBA
    enum: RC_LOGITS
    enum: RC_CHECK_NONE
    enum: RC_CHECK_PROBA
    enum: RC_CHECK_FINITE
    enum: RC_CHECK_NONNEGATIVE
    enum: RC_CHECK_LOG
    enum: RC_CUT_NONE
    enum: RC_CUT_ABOVE
    enum: RC_CUT_FROM
    enum: RC_I8
    enum: RC_U8
    enum: RC_I16
    enum: RC_U16
    enum: RC_I32
    enum: RC_U32
    enum: RC_I64
    enum: RC_U64

    ctypedef struct rc_rule:
        int check
        int cut
        double tolerance
        double threshold

    ctypedef struct rc_bounds:
        pass

    double rc_fold(const double *lanes)

    ctypedef struct rc_cell32:
        pass
    ctypedef struct rc_cell64:
        pass

    enum: RC_NEWTON
    enum: RC_BLAHUT_ARIMOTO
    ctypedef struct rc_capacity_rule:
        double tol, rows_off
        int method
        Py_ssize_t max_scans, max_rounds
    ctypedef struct rc_capacity:
        double lower, upper
        int32_t scans, steps, status, reserved

    ctypedef struct rc_table:
        const char *name
        Py_ssize_t (*decide_f32)(const float *, Py_ssize_t, Py_ssize_t, const rc_rule *, uint8_t *, uint16_t *) noexcept nogil
        Py_ssize_t (*decide_f64)(const double *, Py_ssize_t, Py_ssize_t, const rc_rule *, uint8_t *, uint16_t *) noexcept nogil
        void (*bounds_f32)(const rc_rule *, Py_ssize_t, rc_bounds *) noexcept nogil
        Py_ssize_t (*decide_bits_f32)(const float *, Py_ssize_t, Py_ssize_t, const rc_rule *, const rc_bounds *,
                                      uint64_t *) noexcept nogil
        Py_ssize_t (*narrow)(const void *, int, Py_ssize_t, uint64_t, uint8_t *, uint16_t *) noexcept nogil
        Py_ssize_t (*planes_u8)(const uint8_t *, Py_ssize_t, uint64_t, Py_ssize_t, uint64_t *) noexcept nogil
        void (*encode_u8)(const uint8_t *, Py_ssize_t, Py_ssize_t, uint64_t *) noexcept nogil
        void (*encode_u16)(const uint16_t *, Py_ssize_t, Py_ssize_t, uint64_t *) noexcept nogil
        void (*half_to_float)(const uint16_t *, Py_ssize_t, float *) noexcept nogil
        Py_ssize_t (*transform_f32)(const float *, Py_ssize_t, Py_ssize_t, int, int, double, double *) noexcept nogil
        Py_ssize_t (*transform_f64)(const double *, Py_ssize_t, Py_ssize_t, int, int, double, double *) noexcept nogil
        void (*pair_counts)(const uint64_t *, Py_ssize_t, Py_ssize_t, const uint64_t *, Py_ssize_t, Py_ssize_t,
                            Py_ssize_t, Py_ssize_t, int64_t *, Py_ssize_t) noexcept nogil
        int64_t (*versus)(const uint64_t *, const uint64_t *, Py_ssize_t, Py_ssize_t, const uint64_t *, uint64_t *) noexcept nogil
        void (*versus_weighted)(const uint64_t *, const uint64_t *, Py_ssize_t, Py_ssize_t, const uint64_t *,
                                const double *, double *) noexcept nogil
        void (*first_differing)(const uint64_t *, const uint64_t *, Py_ssize_t, Py_ssize_t, uint64_t *, int32_t,
                                int32_t *) noexcept nogil
        void (*tally_few)(const uint64_t *const *, const uint64_t *const *, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                          Py_ssize_t, Py_ssize_t, uint64_t *, int64_t *) noexcept nogil
        int64_t (*tally_many)(const uint64_t *, const uint64_t *, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                              uint64_t *, int32_t *) noexcept nogil
        void (*decode)(const uint64_t *, Py_ssize_t, Py_ssize_t, uint16_t *) noexcept nogil
        void (*votes_u8)(const uint8_t *, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, int32_t *, Py_ssize_t) noexcept nogil
        void (*votes_bits)(const uint64_t *, Py_ssize_t, Py_ssize_t, Py_ssize_t, int32_t *, int32_t *) noexcept nogil
        void (*cell_counts)(const uint64_t *, Py_ssize_t, Py_ssize_t, const uint64_t *, Py_ssize_t, Py_ssize_t,
                            int64_t *) noexcept nogil
        uint64_t (*popcount_peak)(Py_ssize_t) noexcept nogil
        void (*fold_f32)(const float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, rc_cell32 *, const float *,
                         int32_t *) noexcept nogil
        void (*fold_f64)(const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, rc_cell64 *, const double *) noexcept nogil
        void (*open_f32)(rc_cell32 *, Py_ssize_t, const float *, const float *, const float *, const float *,
                         const double *, const double *) noexcept nogil
        void (*open_f64)(rc_cell64 *, Py_ssize_t, const double *, const double *, const double *, const double *,
                         const double *, const double *) noexcept nogil
        void (*close_f32)(const rc_cell32 *, Py_ssize_t, float *, float *, float *, double *, double *, double *,
                          double, double) noexcept nogil
        void (*close_f64)(const rc_cell64 *, Py_ssize_t, double *, double *, double *, double *, double *, double *,
                          double, double) noexcept nogil
        void (*log_array)(const double *, Py_ssize_t, double *) noexcept nogil
        void (*exp_array)(const double *, Py_ssize_t, double *) noexcept nogil
        void (*sum_lanes)(const double *, const double *, Py_ssize_t, double *) noexcept nogil
        void (*products)(const double *, Py_ssize_t, Py_ssize_t, const double *, Py_ssize_t, double *,
                         Py_ssize_t) noexcept nogil
        void (*distances_f32)(const float *, Py_ssize_t, Py_ssize_t, const double *, double *, double *, double *) noexcept nogil
        void (*distances_f64)(const double *, Py_ssize_t, Py_ssize_t, const double *, double *, double *, double *) noexcept nogil
        float (*read_peak)(const float *, Py_ssize_t) noexcept nogil
        size_t (*capacity_work)(Py_ssize_t, Py_ssize_t, Py_ssize_t) noexcept nogil
        Py_ssize_t (*capacity)(const void *, int, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                               const rc_capacity_rule *, char *, rc_capacity *, double *) noexcept nogil
        void (*capacity_pairs)(const double *, const double *, const double *, const double *, Py_ssize_t, double *,
                               double *, double *) noexcept nogil
        void (*capacity_ranges_f32)(const float *, const float *, const int32_t *, Py_ssize_t, Py_ssize_t, double *,
                                    double *, uint8_t *) noexcept nogil
        void (*capacity_ranges_f64)(const double *, const double *, const double *, Py_ssize_t, Py_ssize_t, double *,
                                    double *, uint8_t *) noexcept nogil
        void (*gaps_f64)(const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, double *) noexcept nogil

cdef const rc_table *leaves() except NULL


cdef inline Py_ssize_t least(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return a if a < b else b
