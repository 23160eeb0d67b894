/* Scores of one query with every image of a gallery, from vectors that are stored as whole numbers.
 *
 * Explained in the chapter on the scan (nbs/24_scan.ipynb), which compiles this file on first use.
 *
 * Entry point: scan_gallery. It allocates nothing; threads may call it at the same time for
 * different images.
 *
 * Axes at the end of a name, as in Python: g image of the gallery, c channel.
 */
#include <stdint.h>

/* ==== scan ==== */
// score_g[g] = scale * sum over c of query_c[c] * code_gc[g][c].
//
//   code_gc   (images, channels), C-contiguous: the vectors of the gallery, 2^14 for 1
//   query_c   (channels,): the vector of the query, 2^14 for 1
//   images    how many
//   channels  of each vector
//   scale     the unit of the sums
//   score_g   (images,): what is written
//
// No sum overflows: the vectors have lengths of at most 1, so that the terms add up to at most 2^28,
// and rounding adds little to that.
void scan_gallery(const int16_t *restrict code_gc,
                  const int16_t *restrict query_c,
                  int64_t images,
                  int64_t channels,
                  float scale,
                  float *restrict score_g) {
    for (int64_t g = 0; g < images; g++) {
        const int16_t *code_c = code_gc + g * channels;
        int32_t sum = 0;
        for (int64_t c = 0; c < channels; c++)
            sum += (int32_t)code_c[c] * query_c[c];
        score_g[g] = scale * (float)sum;
    }
}
