/* Scores of a few queries with every image of a gallery, from vectors stored as whole numbers.
 *
 * Explained in the chapter on the scan (nbs/24_scan.ipynb), which compiles this file on first use.
 *
 * Entry points: encode_query for each query, scan_gallery, then find_candidates for each query. They
 * allocate nothing; threads may call them at the same time for different images or queries.
 *
 * Axes at the end of a name, as in Python: q query, g image of the gallery, c channel, t group of
 * images, n candidate.
 */
#include <math.h>
#include <stdint.h>

/* ==== query ==== */
enum {
    LARGEST = 127,    // code of a gallery
    SUM_MAX = 1 << 24 // of the sizes of a query's codes: times LARGEST it fits into 32 bits
};

// Rounds the weights q * step of a query to whole numbers. Returns the margin: an image whose sum is
// behind another's by more than this has the smaller exact score.
//
//   q_c       (channels,): the vector
//   step_c    (channels,): one step of the gallery's codes
//   channels  of each vector, fewer than SUM_MAX
//   error     the largest distance of a vector of the gallery from its code, in steps
//   longest   the length of the longest vector of the gallery
//   code_c    (channels,): what is written
int64_t encode_query(const float *restrict q_c,
                     const double *restrict step_c,
                     int64_t channels,
                     double error,
                     double longest,
                     int16_t *restrict code_c) {
    double most = 0;
    double weight_square = 0;
    double q_square = 0;
    for (int64_t c = 0; c < channels; c++) {
        double weight = q_c[c] * step_c[c];
        most = fabs(weight) > most ? fabs(weight) : most;
        weight_square += weight * weight;
        q_square += (double)q_c[c] * q_c[c];
    }
    // the largest weight fills 16 bits, if all of that size would not be too much for a sum
    double limit = SUM_MAX / channels < INT16_MAX ? (double)(SUM_MAX / channels) : INT16_MAX;
    double unit = most / limit > 0 ? most / limit : 1; // for zeros, any
    for (int64_t c = 0; c < channels; c++)
        code_c[c] = (int16_t)rint(q_c[c] * step_c[c] / unit);
    // the codes of the gallery are off by `error` steps, those of the query by half a unit each
    double off = sqrt(weight_square) * error / unit + 0.5 * LARGEST * (double)channels;
    // exact scores are sums of floats; twice what can be, for all that is rounded here
    off += (double)channels * 0x1p-23 * longest * sqrt(q_square) / unit;
    // both images may be off; 2^32 is more than any two sums differ
    return 2 * off < 0x1p32 ? (int64_t)ceil(2 * off) : (int64_t)1 << 32;
}

/* ==== scan ==== */
// sum_qg[q][g] = sum over c of query_qc[q][c] * code_gc[g][c].
//
//   code_gc   (images, channels), C-contiguous: the gallery, numbers of at most LARGEST
//   query_qc  (queries, channels), C-contiguous: by encode_query, so that no sum overflows
//   queries   how many; few, so that they stay in the first cache
//   images    how many
//   channels  of each vector
//   sum_qg    (queries, row): what is written, the first `images` numbers of each row
//   row       numbers of a row of sum_qg
//
// Each code is read from memory once for all queries.
void scan_gallery(const int8_t *restrict code_gc,
                  const int16_t *restrict query_qc,
                  int64_t queries,
                  int64_t images,
                  int64_t channels,
                  int32_t *restrict sum_qg,
                  int64_t row) {
    for (int64_t g = 0; g < images; g++) {
        const int8_t *code_c = code_gc + g * channels;
        for (int64_t q = 0; q < queries; q++) {
            const int16_t *query_c = query_qc + q * channels;
            int32_t sum = 0;
            for (int64_t c = 0; c < channels; c++)
                sum += (int32_t)code_c[c] * query_c[c];
            sum_qg[q * row + g] = sum;
        }
    }
}

/* ==== candidates ==== */
// The largest number that at least k of `count` numbers reach, found by halving the range.
static int64_t kth_largest(const int32_t *number, int64_t count, int64_t k) {
    int64_t low = INT32_MIN; // k numbers reach this
    int64_t high = INT32_MAX;
    while (low < high) {
        int32_t middle = (int32_t)(high - (high - low) / 2);
        int32_t reached = 0;
        for (int64_t i = 0; i < count; i++)
            reached += number[i] >= middle;
        if (reached >= k)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

// The images of one query among which the best k by the exact scores are. Returns how many.
//
//   sum_g    (images,): a row of sum_qg
//   images   how many
//   k        how many are wanted, 1 to images
//   margin   an image whose sum is behind the k-th by more than this is not among the best k
//   group    images that share a maximum; there are k groups at least
//   most_t   (images / group, rounded up): memory for the maxima
//   image_n  (2 * images,): what is written, in rising order; zeros up to a power of two follow
int64_t find_candidates(const int32_t *restrict sum_g,
                        int64_t images,
                        int64_t k,
                        int64_t margin,
                        int64_t group,
                        int32_t *restrict most_t,
                        int64_t *restrict image_n) {
    int64_t groups = (images + group - 1) / group;
    for (int64_t t = 0; t < groups; t++) {
        int64_t end = (t + 1) * group < images ? (t + 1) * group : images;
        int32_t most = INT32_MIN;
        for (int64_t g = t * group; g < end; g++)
            most = sum_g[g] > most ? sum_g[g] : most;
        most_t[t] = most;
    }
    // k groups hold an image that reaches the k-th of the maxima: the k-th image reaches it too
    int64_t least = kth_largest(most_t, groups, k) - margin;
    int64_t found = 0;
    for (int64_t t = 0; t < groups; t++) {
        if (most_t[t] < least)
            continue;
        int64_t end = (t + 1) * group < images ? (t + 1) * group : images;
        for (int64_t g = t * group; g < end; g++)
            if (sum_g[g] >= least)
                image_n[found++] = g;
    }
    for (int64_t n = found; n & (n - 1); n++)
        image_n[n] = 0;
    return found;
}
