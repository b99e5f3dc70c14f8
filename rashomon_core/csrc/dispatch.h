/* The function table: every leaf loop of the library, once per instruction set.
 *
 * Leaves are written once (decide.h, encode.h, decisions.h, tally.h, scores.h, capacity.h, binary.h) and compiled once per instruction set by dispatch.c.
 * They take ranges, own no memory and start no threads. Layouts:
 *
 *   planes   uint64 [groups][P][8] per model: bit s of word w of plane p in group g is bit p of the decision of
 *            sample 512 g + 64 w + s; unused bits are 0. P = bits needed for C - 1 (at least 1).
 *   lanes    double [8]: sample i is summed in lane i % 8; rc_fold adds the lanes in a fixed tree.
 *   scores   T [models][samples][C], inner two axes contiguous; C == 1 holds P(class 1).
 */
#ifndef RC_DISPATCH_H
#define RC_DISPATCH_H

#include <stddef.h>
#include <stdint.h>

#define RC_GROUP 512      /* samples per group of bit planes */
#define RC_BLOCK 4096     /* samples per block of a float sum */
#define RC_TALLY 16       /* most groups of a call of tally */
#define RC_BATCH 8        /* most models of a call of tally_few */
#define RC_FEW 48         /* most classes of tally_few */

/* kinds of scores */
enum { RC_PROBA = 0, RC_LOG_PROBA = 1, RC_LOGITS = 2 };
/* what decide() checks of each row */
enum { RC_CHECK_NONE = 0, RC_CHECK_PROBA = 1, RC_CHECK_FINITE = 2, RC_CHECK_NONNEGATIVE = 3, RC_CHECK_LOG = 4 };
/* how binary scores are cut: not at all, P(1) > cut, P(1) >= cut */
enum { RC_CUT_NONE = 0, RC_CUT_ABOVE = 1, RC_CUT_FROM = 2 };
/* source types of labels, in this order */
enum { RC_I8 = 0, RC_U8, RC_I16, RC_U16, RC_I32, RC_U32, RC_I64, RC_U64 };

typedef struct {
  int check;        /* RC_CHECK_* */
  int cut;          /* RC_CUT_*: for C == 1, or C == 2 with a threshold */
  double tolerance; /* |row sum - 1| allowed */
  double threshold;
} rc_rule;

/* What deciding binary floats straight to bits needs of a rule, worked out once: the smallest score that is a 1, and the
 * bits of the smallest legal sum (or P(1)) and how many floats lie between it and the largest. */
typedef struct {
  float cut;
  uint32_t first, range;
  int usable;
} rc_bounds;

/* Accumulators of 16 (8) neighbouring scores: smallest, largest, score of the first model, sums of (s - shift) and of
 * its square. */
typedef struct { float lo[16], hi[16], shift[16]; double s1[16], s2[16]; } rc_cell32;
typedef struct { double lo[8], hi[8], shift[8], s1[8], s2[8]; } rc_cell64;

/* Per-sample channel capacity: how to solve, and what came out (bits). A tolerance below the rounding allowance ends as
 * a precision limit; scans are full looks at all models (rounds of Blahut-Arimoto included), steps those of Newton. */
enum { RC_NEWTON = 0, RC_BLAHUT_ARIMOTO = 1 };
enum { RC_CERTIFIED = 0, RC_ITERATION_LIMIT = 1, RC_PRECISION_LIMIT = 2, RC_REFUSED = 3 };
typedef struct {
  double tol;
  double rows_off;      /* how far sums of rows may be off 1; negative: values have been checked */
  int method;           /* where to start; rounds follow when scans were not enough */
  ptrdiff_t max_scans, max_rounds;
} rc_capacity_rule;
typedef struct { double lower, upper; int32_t scans, steps, status, reserved; } rc_capacity;

typedef struct rc_table {
  const char *name;

  /* encode.h ------------------------------------------------------------------------------------------- */
  /* Decide n rows of C scores; write decisions as bytes or as 16-bit words (the other pointer is NULL; both
   * NULL: check only). Returns the first row that fails the check, or -1. */
  ptrdiff_t (*decide_f32)(const float *s, ptrdiff_t n, ptrdiff_t C, const rc_rule *rule, uint8_t *o8, uint16_t *o16);
  ptrdiff_t (*decide_f64)(const double *s, ptrdiff_t n, ptrdiff_t C, const rc_rule *rule, uint8_t *o8, uint16_t *o16);
  void (*bounds_f32)(const rc_rule *rule, ptrdiff_t C, rc_bounds *bounds);
  /* Binary probabilities (C == 1 or 2, RC_CHECK_PROBA) straight to words of 64 decisions. */
  ptrdiff_t (*decide_bits_f32)(const float *s, ptrdiff_t n, ptrdiff_t C, const rc_rule *rule, const rc_bounds *bounds,
                               uint64_t *words);
  /* Narrow labels of any integer type (RC_I8..RC_U64); returns the first index outside 0..limit-1, or -1. */
  ptrdiff_t (*narrow)(const void *labels, int type, ptrdiff_t n, uint64_t limit, uint8_t *o8, uint16_t *o16);
  /* Bit planes of n labels as encode_u8; returns the first label outside 0..limit-1, or -1. */
  ptrdiff_t (*planes_u8)(const uint8_t *labels, ptrdiff_t n, uint64_t limit, ptrdiff_t P, uint64_t *planes);
  /* Bit planes of n decisions, from sample 0 of a group on; the tail of the last group is zeroed. */
  void (*encode_u8)(const uint8_t *labels, ptrdiff_t n, ptrdiff_t P, uint64_t *planes);
  void (*encode_u16)(const uint16_t *labels, ptrdiff_t n, ptrdiff_t P, uint64_t *planes);
  void (*half_to_float)(const uint16_t *in, ptrdiff_t n, float *out);
  /* Probabilities in double from any kind; returns the first row that fails its check, or -1. */
  ptrdiff_t (*transform_f32)(const float *s, ptrdiff_t n, ptrdiff_t C, int kind, int renormalize, double tolerance, double *out);
  ptrdiff_t (*transform_f64)(const double *s, ptrdiff_t n, ptrdiff_t C, int kind, int renormalize, double tolerance, double *out);

  /* decisions.h ---------------------------------------------------------------------------------------- */
  /* out[i*ldo + j] += samples on which models i of A and j of B differ; na, nb <= 4. */
  void (*pair_counts)(const uint64_t *A, ptrdiff_t sa, ptrdiff_t na, const uint64_t *B, ptrdiff_t sb, ptrdiff_t nb,
                      ptrdiff_t groups, ptrdiff_t P, int64_t *out, ptrdiff_t ldo);
  /* Samples on which A and R differ, within mask if given; ORed into any if given. */
  int64_t (*versus)(const uint64_t *A, const uint64_t *R, ptrdiff_t groups, ptrdiff_t P, const uint64_t *mask, uint64_t *any);
  /* The same, weighted: adds w of the differing samples to lanes. */
  void (*versus_weighted)(const uint64_t *A, const uint64_t *R, ptrdiff_t groups, ptrdiff_t P, const uint64_t *mask,
                          const double *w, double *lanes);
  /* Models one after another: rank[i] = k on the samples where A differs from R as the first one (seen: the others). */
  void (*first_differing)(const uint64_t *A, const uint64_t *R, ptrdiff_t groups, ptrdiff_t P, uint64_t *seen, int32_t k,
                          int32_t *rank);
  /* votes[k] += how often the models so far, and those before it in this batch of K, gave the answers of A[k]; then all
   * are counted in. counters: [groups][C][bits][8], zeros at first; `bits` hold the number of all models, 32 at most.
   * next (or NULL): K rows to be prefetched. */
  void (*tally_few)(const uint64_t *const *A, const uint64_t *const *next, ptrdiff_t K, ptrdiff_t before, ptrdiff_t groups,
                    ptrdiff_t P, ptrdiff_t C, ptrdiff_t bits, uint64_t *counters, int64_t *votes);
  /* The same for many classes and one model; counters: [bits][RC_TALLY * 8], of those that decide like R; votes: [groups * 512][C]. */
  int64_t (*tally_many)(const uint64_t *A, const uint64_t *R, ptrdiff_t groups, ptrdiff_t P, ptrdiff_t C, ptrdiff_t bits,
                        ptrdiff_t used, uint64_t *counters, int32_t *votes);
  void (*decode)(const uint64_t *A, ptrdiff_t groups, ptrdiff_t P, uint16_t *out);
  /* votes[c*ldv + i] += models k < K with decision c on sample i, c < C. */
  void (*votes_u8)(const uint8_t *d, ptrdiff_t sd, ptrdiff_t K, ptrdiff_t n, ptrdiff_t C, int32_t *votes, ptrdiff_t ldv);
  void (*votes_bits)(const uint64_t *words, ptrdiff_t sw, ptrdiff_t K, ptrdiff_t n, int32_t *zeros, int32_t *ones);
  /* out[cell*C + c] += samples of the cell with decision c; cells are masks [cell][groups*8]. */
  void (*cell_counts)(const uint64_t *A, ptrdiff_t groups, ptrdiff_t P, const uint64_t *masks, ptrdiff_t cells,
                      ptrdiff_t C, int64_t *out);
  /* XOR + popcount of n x 512 bits, 16 independent accumulators, nothing but registers: the anchor of benches. */
  uint64_t (*popcount_peak)(ptrdiff_t n);

  /* scores.h ------------------------------------------------------------------------------------------- */
  /* Fold K models (stride apart) of n scores into cells; what is at next is prefetched, unless NULL. gaps, unless NULL
   * (two classes interleaved): gaps[i] = max(gaps[i], s[i] - s[i ^ 1]), floats by their bits. */
  void (*fold_f32)(const float *s, ptrdiff_t stride, ptrdiff_t K, ptrdiff_t n, rc_cell32 *cells, const float *next,
                   int32_t *gaps);
  void (*fold_f64)(const double *s, ptrdiff_t stride, ptrdiff_t K, ptrdiff_t n, rc_cell64 *cells, const double *next);
  void (*open_f32)(rc_cell32 *cells, ptrdiff_t n, const float *first, const float *lo, const float *hi, const float *shift,
                   const double *s1, const double *s2);
  void (*open_f64)(rc_cell64 *cells, ptrdiff_t n, const double *first, const double *lo, const double *hi,
                   const double *shift, const double *s1, const double *s2);
  void (*close_f32)(const rc_cell32 *cells, ptrdiff_t n, float *lo, float *hi, float *shift, double *s1, double *s2,
                    double *var, double models, double ddof);
  void (*close_f64)(const rc_cell64 *cells, ptrdiff_t n, double *lo, double *hi, double *shift, double *s1, double *s2,
                    double *var, double models, double ddof);
  void (*log_array)(const double *x, ptrdiff_t n, double *out);
  void (*exp_array)(const double *x, ptrdiff_t n, double *out);
  /* lanes += w * x; a weight of 0 adds nothing, whatever x; w NULL: weights 1. n < 8: lanes 0..n-1. */
  void (*sum_lanes)(const double *x, const double *w, ptrdiff_t n, double *lanes);
  /* out[j*ldo + l] = sum over i < n of x[j*ldx + i] * w[i*8 + l], j < rows <= 4, l < 8, in the order of i. */
  void (*products)(const double *x, ptrdiff_t ldx, ptrdiff_t rows, const double *w, ptrdiff_t n, double *out, ptrdiff_t ldo);
  /* Per sample: total variation, and cross-entropy in nats, of C scores against target probabilities. */
  void (*distances_f32)(const float *s, ptrdiff_t n, ptrdiff_t C, const double *t, double *tv, double *ce, double *work);
  void (*distances_f64)(const double *s, ptrdiff_t n, ptrdiff_t C, const double *t, double *tv, double *ce, double *work);
  /* The largest of n floats: what reading memory costs and nothing more. */
  float (*read_peak)(const float *x, ptrdiff_t n);

  /* capacity.h ----------------------------------------------------------------------------------------- */
  /* Bytes of scratch that capacity needs for M models, C classes and n samples. */
  size_t (*capacity_work)(ptrdiff_t M, ptrdiff_t C, ptrdiff_t n);
  /* Capacity of n samples: rows are floats, or doubles if wide, C of a sample and the samples of a model contiguous.
   * weights, if given: [M], the input distribution that reaches the lower bound of the last sample. Stops at the first
   * sample whose values are not plainly probabilities and returns it, else -1. */
  ptrdiff_t (*capacity)(const void *rows, int wide, ptrdiff_t stride, ptrdiff_t M, ptrdiff_t n, ptrdiff_t C,
                   const rc_capacity_rule *rule, char *work, rc_capacity *out, double *weights);
  /* Closed form for two classes: masses of class 0 and 1 in the rows with the least and the most of class 1; weight:
   * of the former in the optimal input distribution. */
  void (*capacity_pairs)(const double *a0, const double *a1, const double *b0, const double *b1, ptrdiff_t n,
                         double *lower, double *upper, double *weight);
  /* The same from ranges, [n][columns]; apart[i]: the extremes of both classes are not in one row. */
  void (*capacity_ranges_f32)(const float *low, const float *high, const int32_t *gaps, ptrdiff_t columns, ptrdiff_t n,
                              double *lower, double *upper, uint8_t *apart);
  void (*capacity_ranges_f64)(const double *low, const double *high, const double *gaps, ptrdiff_t columns, ptrdiff_t n,
                              double *lower, double *upper, uint8_t *apart);
  /* The gaps of doubles, as in fold_f32. */
  void (*gaps_f64)(const double *s, ptrdiff_t stride, ptrdiff_t K, ptrdiff_t n, double *gap);
} rc_table;

/* Best first; NULL-terminated; holds only what this processor runs. */
const rc_table *const *rc_tables(void);

/* Adds eight lanes in the one fixed order. */
static inline double rc_fold(const double *l) {
  return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
}

#endif
