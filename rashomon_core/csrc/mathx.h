/* Logarithm and exponential from +, -, *, / and integer operations only, so that they give the same bits on every
 * instruction set and every libm. Branch-free: loops over them vectorise. Error below 1 ulp (log) and 2 ulp (exp).
 *
 * log x: x = 2^k m, m in [sqrt(1/2), sqrt 2), f = m - 1, s = f / (2 + f); log m = 2 atanh s, arranged as
 * f - (f^2/2 - s (f^2/2 + R)), R = 2 (s^2/3 + s^4/5 + ...): the large term f is exact.
 * exp x: x = k log 2 + r, |r| <= log(2)/2; Taylor polynomial of degree 13; 2^k in two factors for subnormals. */

RC_INLINE uint64_t RC_(bits)(double x) { uint64_t u; memcpy(&u, &x, 8); return u; }
RC_INLINE double RC_(real)(uint64_t u) { double x; memcpy(&x, &u, 8); return x; }
RC_INLINE uint32_t RC_(bits_f)(float x) { uint32_t u; memcpy(&u, &x, 4); return u; }
RC_INLINE float RC_(real_f)(uint32_t u) { float x; memcpy(&x, &u, 4); return x; }

#ifndef RC_LN2_HI
#define RC_LN2_HI 0x1.62e42feep-1       /* 32 leading bits: k * RC_LN2_HI is exact */
#define RC_LN2_LO 0x1.a39ef35793c76p-33 /* ln 2 - RC_LN2_HI */
#define RC_MAGIC 0x1.8p52               /* adding it rounds to an integer that then sits in the low bits */
#endif

/* log x - shift log 2, for normal finite x > 0 */
RC_INLINE double RC_(log_normal)(double x, double shift) {
  uint64_t u = RC_(bits)(x) + (0x3ff0000000000000u - 0x3fe6a09e667f3bcdu);
  uint64_t k = u >> 52; /* biased by 1023 */
  double m = RC_(real)((u & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu);
  double kd = RC_(real)(k | 0x4330000000000000u) - (0x1p52 + 1023.0) - shift;
  double f = m - 1.0, half = 0.5 * f * f, s = f / (2.0 + f), z = s * s;
  double y2 = z * z, p = 1.0 / 23.0, o = 1.0 / 21.0; /* even and odd terms: two short chains instead of a long one */
  p = p * y2 + 1.0 / 19.0;
  o = o * y2 + 1.0 / 17.0;
  p = p * y2 + 1.0 / 15.0;
  o = o * y2 + 1.0 / 13.0;
  p = p * y2 + 1.0 / 11.0;
  o = o * y2 + 1.0 / 9.0;
  p = p * y2 + 1.0 / 7.0;
  o = o * y2 + 1.0 / 5.0;
  p = p * y2 + 1.0 / 3.0;
  double R = 2.0 * z * (p + z * o);
  return kd * RC_LN2_HI - ((half - (s * (half + R) + kd * RC_LN2_LO)) - f);
}

RC_INLINE double RC_(log)(double x) {
  double tiny = x < 0x1p-1022 ? 1.0 : 0.0;
  double y = RC_(log_normal)(tiny != 0.0 ? x * 0x1p54 : x, tiny * 54.0);
  y = x == 0.0 ? -INFINITY : y;
  y = x == INFINITY ? INFINITY : y;
  return x >= 0.0 ? y : NAN;
}

/* The same in floats, for 2^-126 <= x < infinity: off by at most 12 units of |log x|, a unit being 2^-24. s is off by 2 of
 * itself, s R by a few of a hundredth of s, what the series leaves out is s^10 / 11 < 2^-28 of it, the sum adds one: log m
 * is off by 4 of itself. k log 2 is off by 2 of itself; it is at most 2 |log x|, and |log m| at most |log x|. */
RC_INLINE float RC_(log_f)(float x) {
  uint32_t u = RC_(bits_f)(x) + (0x3f800000u - 0x3f3504f3u);
  float kf = (float)((int32_t)(u >> 23) - 127), f = RC_(real_f)((u & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
  float s = f / (2.0f + f), z = s * s;
  float R = z * (0.333333333f + z * (0.2f + z * (0.142857143f + z * 0.111111111f)));
  return kf * 0.693147181f + 2.0f * (s + s * R);
}

RC_INLINE double RC_(exp)(double x) {
  double c = x < -746.0 ? -746.0 : x;
  c = c > 710.0 ? 710.0 : c;
  double t = c * 0x1.71547652b82fep0 + RC_MAGIC;
  double kd = t - RC_MAGIC;
  double r = (c - kd * RC_LN2_HI) - kd * RC_LN2_LO;
  double p = 1.0 / 6227020800.0;
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = 1.0 + (r + r * r * p);
  double h = kd * 0.5 + RC_MAGIC; /* 2^k = 2^a 2^b with a = round(k / 2) */
  uint64_t a = RC_(bits)(h), b = RC_(bits)(t) - a;
  double y = p * RC_(real)((a + 1023u) << 52) * RC_(real)((b + 1023u) << 52);
  return x == x ? y : x;
}
