/* Everything that is compiled once per instruction set. No include guard: dispatch.c includes it several times. */
#include "simd.h"
#include "mathx.h"
#include "decide.h"
#include "encode.h"
#include "decisions.h"
#include "tally.h"
#include "scores.h"
#include "channel.h"
#include "filter.h"
#include "capacity.h"
#include "binary.h"

static const rc_table RC_(table) = {
    RC_TEXT(RC_ISA),
    RC_(decide_f32), RC_(decide_f64), RC_(bounds_f32), RC_(decide_bits_f32), RC_(narrow), RC_(planes_u8),
    RC_(encode_u8), RC_(encode_u16), RC_(half_to_float),
    RC_(transform_f32), RC_(transform_f64),
    RC_(pair_counts), RC_(versus), RC_(versus_weighted), RC_(first_differing), RC_(tally_few), RC_(tally_many), RC_(decode), RC_(votes_u8), RC_(votes_bits), RC_(cell_counts), RC_(popcount_peak),
    RC_(fold_f32), RC_(fold_f64), RC_(open_f32), RC_(open_f64), RC_(close_f32), RC_(close_f64),
    RC_(log_array), RC_(exp_array), RC_(sum_lanes), RC_(products),
    RC_(distances_f32), RC_(distances_f64), RC_(read_peak),
    RC_(capacity_work), RC_(capacity), RC_(capacity_pairs), RC_(capacity_ranges_f32), RC_(capacity_ranges_f64), RC_(gaps_f64),
};
