/* Compiles the leaves once per instruction set and finds out which of them this processor runs. */
#include "dispatch.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#if !defined(RC_X86) /* the build may say 0: plain C, as arm64 and MSVC get it */
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define RC_X86 1
#else
#define RC_X86 0
#endif
#endif
#if RC_X86
#include <immintrin.h>
#endif

#define RC_JOIN_(a, b) a##_##b
#define RC_JOIN(a, b) RC_JOIN_(a, b)
#define RC_TEXT_(a) #a
#define RC_TEXT(a) RC_TEXT_(a)
#define RC_(name) RC_JOIN(name, RC_ISA)

#if defined(__GNUC__) || defined(__clang__)
#define RC_INLINE static inline __attribute__((always_inline))
#define RC_PREFETCH(p) __builtin_prefetch((p), 0, 2)
#define RC_ALIGNED __attribute__((aligned(64)))
#else
#define RC_INLINE static __forceinline
#define RC_PREFETCH(p) ((void)(p))
#define RC_ALIGNED __declspec(align(64))
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#define restrict __restrict
#endif

#define RC_SWAP(a, b)  \
  do {                 \
    double *t_ = (a);  \
    (a) = (b);         \
    (b) = t_;          \
  } while (0)
#define RC_TINY 0x1p-120    /* what doubles above 0 become at least in a float copy */
#define RC_MISSING 0x1p-960 /* a class with less is missing from a mixture */

#define RC_ISA base
#define RC_LEVEL 0
#include "leaves.h"
#undef RC_ISA
#undef RC_LEVEL

#if RC_X86
/* No "fma" in either list, and -ffp-contract=off in the build: results are the same bits everywhere. AVX-512 brings one
 * along, which only bounds of the filter use (VF_FMA). */
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,popcnt,bmi,bmi2,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,popcnt,bmi,bmi2,f16c")
#endif
#define RC_ISA avx2
#define RC_LEVEL 1
#include "leaves.h"
#undef RC_ISA
#undef RC_LEVEL
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,popcnt,bmi,bmi2,f16c"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,popcnt,bmi,bmi2,f16c,prefer-vector-width=512")
#endif
#define RC_ISA avx512
#define RC_LEVEL 2
#include "leaves.h"
#undef RC_ISA
#undef RC_LEVEL
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

const rc_table *const *rc_tables(void) {
  static const rc_table *found[4]; /* written with the same values by every caller */
  int n = 0;
#if RC_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("bmi2"))
    found[n++] = &table_avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("bmi2"))
    found[n++] = &table_avx2; /* every processor with AVX2 has F16C */
#endif
  found[n++] = &table_base;
  found[n] = NULL;
  return found;
}
