/* Scores of a few queries with every image of a gallery, from vectors stored as whole numbers.
 *
 * Explained in the chapter on the scan (nbs/24_scan.ipynb), which compiles this file on first use.
 *
 * Entry point: scan_gallery. It allocates nothing; threads may call it at the same time for
 * different images.
 *
 * Axes at the end of a name, as in Python: q query, g image of the gallery, c channel.
 */
#include <stdint.h>

/* ==== scan ==== */
// score_qg[q][g] = scale * sum over c of query_qc[q][c] * code_gc[g][c].
//
//   code_gc   (images, channels), C-contiguous: the vectors of the gallery, 2^14 for 1
//   query_qc  (queries, channels), C-contiguous: the vectors of the queries, 2^14 for 1
//   queries   how many; few, so that they stay in the first cache
//   images    how many
//   channels  of each vector
//   scale     the unit of the sums
//   score_qg  (queries, row): what is written, the first `images` numbers of each row
//   row       numbers of a row of score_qg
//
// No sum overflows: the vectors have lengths of at most 1, so that the terms add up to at most 2^28,
// and rounding adds little to that. Each code is read from memory once for all queries.
void scan_gallery(const int16_t *restrict code_gc,
                  const int16_t *restrict query_qc,
                  int64_t queries,
                  int64_t images,
                  int64_t channels,
                  float scale,
                  float *restrict score_qg,
                  int64_t row) {
    for (int64_t g = 0; g < images; g++) {
        const int16_t *code_c = code_gc + g * channels;
        for (int64_t q = 0; q < queries; q++) {
            const int16_t *query_c = query_qc + q * channels;
            int32_t sum = 0;
            for (int64_t c = 0; c < channels; c++)
                sum += (int32_t)code_c[c] * query_c[c];
            score_qg[q * row + g] = scale * (float)sum;
        }
    }
}
