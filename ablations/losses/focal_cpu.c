/* Focal loss and its gradient in one pass over float32 logits: what `curves.Focal` computes, with
 * every intermediate in the first-level cache. Loops are written so that a compiler turns them into
 * vector code; NaN logits stay NaN. Built and called by native.py. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

enum { BLOCK = 1024 };

typedef union { float number; uint32_t bits; } word;

/* exp(t) for t <= 0, to a unit in the last place; 0 below the smallest normal number.
 * t = n ln 2 + r, |r| <= 0.35; the series of exp(r) is cut where its rest is below half an ulp. */
static inline float exp_nonpositive(float t) {
    const float lowest = -87.0f, shift = 12582912.0f; /* 1.5 * 2^23: adding it rounds to integer */
    float clamped = t < lowest ? lowest : t;
    word n = {clamped * 1.44269504f + shift};
    float whole = n.number - shift;
    float r = clamped - whole * 0.693359375f + whole * 2.12194440e-4f;
    float series = 1.0f / 5040;
    series = series * r + 1.0f / 720;
    series = series * r + 1.0f / 120;
    series = series * r + 1.0f / 24;
    series = series * r + 1.0f / 6;
    series = series * r + 0.5f;
    series = series * r + 1.0f;
    series = series * r + 1.0f;
    word power = {.bits = (n.bits << 23) + 0x3f800000u}; /* 2^n */
    float result = series * power.number;
    return t < lowest ? 0.0f : result;
}

/* log(1 + e) for 0 <= e <= 1, as 2 artanh(s), s = e / (2 + e) <= 1/3. */
static inline float log1p_unit(float e) {
    float s = e / (2.0f + e), q = s * s;
    float series = 1.0f / 15;
    series = series * q + 1.0f / 13;
    series = series * q + 1.0f / 11;
    series = series * q + 1.0f / 9;
    series = series * q + 1.0f / 7;
    series = series * q + 1.0f / 5;
    series = series * q + 1.0f / 3;
    series = series * q + 1.0f;
    return 2.0f * s * series;
}

/* p^gamma: by multiplication for multiples of one half up to 10, else from log(p). */
static void modulate(const float *p, const float *log_p, int n, float gamma, float *out) {
    float whole = floorf(gamma);
    if (gamma > 10 || (gamma != whole && gamma != whole + 0.5f)) {
        for (int i = 0; i < n; i++) out[i] = exp_nonpositive(gamma * log_p[i]);
        return;
    }
    if (gamma != whole)
        for (int i = 0; i < n; i++) out[i] = sqrtf(p[i]);
    else
        for (int i = 0; i < n; i++) out[i] = 1.0f;
    for (int k = 0; k < (int)whole; k++)
        for (int i = 0; i < n; i++) out[i] *= p[i];
}

/* factor * p^gamma * CE and its derivative, of n <= BLOCK pairs with y = 0; p = 1 - p_t. */
static void negatives(const float *x, int n, float gamma, float factor, float *value, float *slope) {
    float p[BLOCK], p_t[BLOCK], log_p[BLOCK], cross_entropy[BLOCK], modulator[BLOCK];
    for (int i = 0; i < n; i++) {
        float e = exp_nonpositive(-fabsf(x[i]));
        float log_sum = log1p_unit(e), reciprocal = 1.0f / (1.0f + e);
        p[i] = (x[i] < 0 ? e : 1.0f) * reciprocal;
        p_t[i] = (x[i] < 0 ? 1.0f : e) * reciprocal;
        log_p[i] = (x[i] < 0 ? x[i] : 0.0f) - log_sum;
        cross_entropy[i] = (x[i] < 0 ? 0.0f : x[i]) + log_sum;
    }
    modulate(p, log_p, n, gamma, modulator);
    for (int i = 0; i < n; i++) value[i] = factor * modulator[i] * cross_entropy[i];
    if (!slope) return;
    for (int i = 0; i < n; i++) {
        slope[i] = factor * modulator[i] * (p[i] + gamma * p_t[i] * cross_entropy[i]);
    }
}

static void scale(float *row, int64_t n, float weight) {
    if (weight == 0)
        for (int64_t i = 0; i < n; i++) row[i] = 0;
    else
        for (int64_t i = 0; i < n; i++) row[i] *= weight;
}

/* Sum the loss of `rows` anchors; fill `loss` and `gradient`, [rows, classes], where not NULL.
 * target: [rows], `classes` is background. weight: [rows], or NULL for ones.
 * Returns NaN where there is no memory, which no caller can take for a loss. */
double focal_rows(const float *x, const int64_t *target, const float *weight, int64_t rows,
                  int64_t classes, float gamma, float positive_factor, float negative_factor,
                  float *loss, float *gradient) {
    int64_t step = classes < BLOCK ? BLOCK / classes : 1;
    float *scratch = malloc(sizeof(float) * (size_t)(step * classes));
    double total = 0;
    if (!scratch) return NAN;
    for (int64_t first = 0; first < rows; first += step) {
        int64_t last = first + step < rows ? first + step : rows;
        int64_t start = first * classes, count = (last - first) * classes;
        float *value = loss ? loss + start : scratch;
        float *slope = gradient ? gradient + start : NULL;
        for (int64_t i = 0; i < count; i += BLOCK) {
            int n = count - i < BLOCK ? (int)(count - i) : BLOCK;
            negatives(x + start + i, n, gamma, negative_factor, value + i, slope ? slope + i : NULL);
        }
        for (int64_t row = first; row < last; row++) {
            int64_t offset = (row - first) * classes, label = target[row];
            float weight_here = weight ? weight[row] : 1.0f;
            if (weight_here != 1) {
                scale(value + offset, classes, weight_here);
                if (slope) scale(slope + offset, classes, weight_here);
            }
            if (label >= 0 && label < classes && weight_here != 0) { /* y = 1: mirrored */
                float mirrored = -x[start + offset + label], positive_slope;
                negatives(&mirrored, 1, gamma, positive_factor * weight_here,
                          value + offset + label, &positive_slope);
                if (slope) slope[offset + label] = -positive_slope;
            }
        }
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < count; i++) sum += value[i];
        total += sum;
    }
    free(scratch);
    return total;
}
