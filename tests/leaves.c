/* Runs leaves of every table of this processor on fixed inputs and prints a checksum of each answer: a block of lines for
 * each table, all alike. Capacity prints digits that its certified interval fixes. See test_portable.py. */
#include "dispatch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 2048, G = N / 512, C = 5, P = 3, M = 40, FEW = 64 };

static uint64_t state;
static uint64_t draw(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}
static double uniform(void) { return (double)(draw() >> 11) * 0x1p-53; }

static void say(const char *what, const void *at, size_t bytes) {
  const unsigned char *b = (const unsigned char *)at;
  uint64_t h = 1469598103934665603u;
  for (size_t i = 0; i < bytes; i++) h = (h ^ b[i]) * 1099511628211u;
  printf("%s %016llx\n", what, (unsigned long long)h);
}

static uint8_t labels[M * N], decided[M * FEW];
static uint64_t planes[M * G * P * 8], any[G * 8];
static int64_t counts[16];
static uint16_t back[N];
static int32_t votes[C * N], ranks[N];
static double x[N], y[N], lanes[8], product[8], weights[N * 8];
static float scores[M * FEW * C], low[FEW * C], high[FEW * C], shift[FEW * C];
static double s1[FEW * C], s2[FEW * C], variance[FEW * C];
static rc_cell32 cells[FEW * C / 16];
static rc_capacity out[FEW];

static void run(const rc_table *t) {
  state = 88172645463325252u;
  for (int i = 0; i < M * N; i++) labels[i] = (uint8_t)(draw() % C);
  for (int k = 0; k < M; k++) t->encode_u8(labels + k * N, N, P, planes + k * G * P * 8);
  say("encode", planes, sizeof planes);
  memset(counts, 0, sizeof counts);
  t->pair_counts(planes, G * P * 8, 4, planes + 4 * G * P * 8, G * P * 8, 4, G, P, counts, 4);
  say("pair_counts", counts, sizeof counts);
  memset(any, 0, sizeof any);
  int64_t differ = t->versus(planes, planes + G * P * 8, G, P, NULL, any);
  say("versus", &differ, sizeof differ);
  say("union", any, sizeof any);
  memset(any, 0, sizeof any);
  for (int i = 0; i < N; i++) ranks[i] = -1;
  for (int k = 1; k < M; k++) t->first_differing(planes + k * G * P * 8, planes, G, P, any, k, ranks);
  say("first_differing", ranks, sizeof ranks);
  t->decode(planes, G, P, back);
  say("decode", back, sizeof back);
  memset(votes, 0, sizeof votes);
  t->votes_u8(labels, N, M, N, C, votes, N);
  say("votes", votes, sizeof votes);
  for (int i = 0; i < N; i++) x[i] = uniform() * 20 + 1e-3;
  t->log_array(x, N, y);
  say("log", y, sizeof y);
  t->exp_array(x, N, y);
  say("exp", y, sizeof y);
  memset(lanes, 0, sizeof lanes);
  t->sum_lanes(x, y, N, lanes);
  say("sum_lanes", lanes, sizeof lanes);
  for (int i = 0; i < N * 8; i++) weights[i] = uniform();
  t->products(x, N, 1, weights, N, product, 8);
  say("products", product, sizeof product);
  for (int i = 0; i < M * FEW; i++) {
    float total = 0;
    for (int c = 0; c < C; c++) total += scores[i * C + c] = (float)uniform() + 0.1f;
    for (int c = 0; c < C; c++) scores[i * C + c] /= total;
  }
  rc_rule rule = {RC_CHECK_PROBA, RC_CUT_NONE, 1e-3, 0.5};
  int64_t bad = t->decide_f32(scores, M * FEW, C, &rule, decided, NULL);
  say("decide", decided, sizeof decided);
  printf("bad %d\n", (int)bad);
  t->open_f32(cells, FEW * C, scores, NULL, NULL, NULL, NULL, NULL);
  t->fold_f32(scores, FEW * C, M, FEW * C, cells, NULL, NULL);
  t->close_f32(cells, FEW * C, low, high, shift, s1, s2, variance, M, 0);
  say("low", low, sizeof low);
  say("high", high, sizeof high);
  say("variance", variance, sizeof variance);
  rc_capacity_rule how = {1e-9, -1.0, RC_NEWTON, 100, 1000};
  char *work = (char *)malloc(t->capacity_work(M, C, FEW));
  t->capacity(scores, 0, FEW * C, M, FEW, C, &how, work, out, NULL);
  free(work);
  double total = 0;
  int certified = 0;
  for (int i = 0; i < FEW; i++) {
    total += 0.5 * (out[i].lower + out[i].upper);
    certified += out[i].status == RC_CERTIFIED;
  }
  printf("capacity %.6f, certified %d\n", total, certified);
}

int main(void) {
  const rc_table *const *tables = rc_tables();
  for (int i = 0; tables[i]; i++) {
    if (i) printf("\n");
    run(tables[i]);
  }
  return 0;
}
