/* The k best of each row of a long matrix of scores that comes in tiles, some columns at a time.
 *
 * Explained in the chapter on the best k (nbs/21_topk.ipynb), which compiles this file on first
 * use. It must agree with a stable sort: best first, and of equal scores the earlier column first.
 *
 * Entry points: topk_update for each tile, then topk_finish. They allocate nothing; threads may
 * call them at the same time for different rows.
 *
 * Axes at the end of a name, as in Python: q row (query), g column (image of the gallery), k place.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "_internal/simd.h"

enum {
    GROUP = 4 * LANES, // scores that are compared with the threshold at once
};

/* ==== state ==== */
// The best so far of each row. The caller owns the arrays; at first filled_q is 0 and threshold_q
// is NaN, which every score passes, and the keys may hold anything.
typedef struct {
    int64_t *key_qk;    // (queries, capacity): keys of score and column; see score_key
    int32_t *filled_q;  // (queries,): keys that are there
    float *threshold_q; // (queries,): a score up to this is not among the best k
    int64_t queries;    // rows
    int32_t capacity;   // places for the keys of a row: more than k; with 2k, the work is small
    int32_t k;          // how many are wanted
} TopK;

/* ==== keys ==== */
// The bits of a float as a whole number in the same order: those of negative floats are turned.
INLINE int32_t float_to_ordered(float x) {
    int32_t bits;
    memcpy(&bits, &x, 4);
    return bits < 0 ? bits ^ 0x7fffffff : bits;
}

// The inverse of float_to_ordered.
INLINE float ordered_to_float(int32_t ordered) {
    float x;
    int32_t bits = ordered < 0 ? ordered ^ 0x7fffffff : ordered;
    memcpy(&x, &bits, 4);
    return x;
}

// A whole number that sorts as wanted: high scores first, of equal ones the earlier column.
INLINE int64_t score_key(float score, int64_t column) {
    uint64_t high = (uint32_t)float_to_ordered(score);
    uint64_t low = (uint64_t)(0xffffffff - column);
    return (int64_t)(high << 32 | low);
}

// For qsort: the larger key comes first.
static int compare_desc(const void *x, const void *y) {
    int64_t a = *(const int64_t *)x;
    int64_t b = *(const int64_t *)y;
    return (a < b) - (a > b);
}

/* ==== partition ==== */
// Moves the k largest of `count` keys to the front, in no order (Hoare's quickselect).
static void partition_topk(int64_t *key, int count, int k) {
    int low = 0;
    int high = count - 1;
    while (low < high) {
        // keys above the pivot to the left of i, keys below it to the right of j
        int64_t pivot = key[(low + high) / 2];
        int i = low;
        int j = high;
        while (i <= j) {
            while (key[i] > pivot)
                i++;
            while (key[j] < pivot)
                j--;
            if (i <= j) {
                int64_t swapped = key[i];
                key[i++] = key[j];
                key[j--] = swapped;
            }
        }
        // go on in the part that holds the border between place k - 1 and place k
        if (k <= j)
            high = j;
        else if (k >= i)
            low = i;
        else
            return;
    }
}

/* ==== update ==== */
// the bits of an IntVector, two lanes in each number: half as many to look at
typedef int64_t LongVector __attribute__((vector_size(4 * LANES)));

// Is one of the next GROUP scores above the threshold? If that is NaN: yes.
INLINE int any_above(const float *score, float threshold) {
    IntVector above = {0};
    int64_t any = 0;
    UNROLL
    for (int v = 0; v < 4; v++)
        above |= ~(*(const UnalignedVector *)(score + v * LANES) <= threshold);
    UNROLL
    for (int lane = 0; lane < LANES / 2; lane++)
        any |= ((LongVector)above)[lane];
    return any != 0;
}

// Drops all keys of row q but the best k, and raises the threshold to the worst of these.
static void shrink(TopK *state, int64_t q) {
    int64_t *key = state->key_qk + q * state->capacity;
    partition_topk(key, state->capacity, state->k);
    state->filled_q[q] = state->k;
    int64_t worst = key[0];
    for (int i = 1; i < state->k; i++)
        worst = key[i] < worst ? key[i] : worst;
    state->threshold_q[q] = ordered_to_float((int32_t)(worst >> 32));
}

// Takes one tile into account.
//
//   state     the best so far
//   score_qg  (state->queries, columns), C-contiguous: the tile
//   columns   of the tile
//   first     the number of its first column in the whole matrix, which has fewer than 2^32
void topk_update(TopK *state, const float *score_qg, int64_t columns, int64_t first) {
    for (int64_t q = 0; q < state->queries; q++) {
        const float *score = score_qg + q * columns;
        int64_t *key = state->key_qk + q * state->capacity;
        int64_t count = 0; // of scores in this group
        for (int64_t g = 0; g < columns; g += count) {
            count = columns - g < GROUP ? columns - g : GROUP;
            // skip a group that is below the threshold as a whole, as nearly all are
            if (count == GROUP && !any_above(score + g, state->threshold_q[q]))
                continue;
            // take what is above; the threshold rises on the way
            for (int64_t i = g; i < g + count; i++) {
                if (score[i] <= state->threshold_q[q])
                    continue;
                key[state->filled_q[q]++] = score_key(score[i], first + i);
                // no place left: keep the best k
                if (state->filled_q[q] == state->capacity)
                    shrink(state, q);
            }
        }
    }
}

/* ==== finish ==== */
// Sorts the best k of each row to the front of key_qk. Each row has seen k scores at least.
void topk_finish(TopK *state) {
    for (int64_t q = 0; q < state->queries; q++) {
        int64_t *key = state->key_qk + q * state->capacity;
        partition_topk(key, state->filled_q[q], state->k);
        qsort(key, (size_t)state->k, sizeof *key, compare_desc);
    }
}
