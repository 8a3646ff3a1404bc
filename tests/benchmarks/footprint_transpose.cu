// Transpose of the separable footprint projector for a flat detector, in single precision: what
// operators/kernels/triton_footprint.py computes, written by hand, to see what Triton costs.
// One block per pixel, threads along z; the projections are already multiplied by path lengths.

__device__ __forceinline__ float lower_edge(float row, float a, float b, float h, float m)
{
    return fmaf(m, fmaf(row, h, b), a);
}

__device__ __forceinline__ float overlap(float below, float step)
{
    return __saturatef(below + step) - __saturatef(below);
}

extern "C" __global__ void footprint_transpose(
    const float* weighted,       // [view, column, row]
    const long long* shadows,    // [view, column, 5]: e0, de, f0, df in 2^-32 pixels, along_x
    const double* views,         // [view, 2, 3]
    const int* anchors,          // [view, 2]
    const double* remainders,    // [view, 3]
    float* volume,               // [y, x, z]
    int nx, int nz, int columns, int n_rows, int n_views)
{
    const int i = blockIdx.x / nx, j = blockIdx.x % nx;
    const long long one = 1ll << 32;
    for (int k = threadIdx.x; k < nz; k += blockDim.x) {
        float total = 0.0f;
        for (int v = 0; v < n_views; ++v) {
            const double* P = views + 6 * v;
            const float A1 = (float)P[1], A2 = (float)P[2], B1 = (float)P[4], B2 = (float)P[5];
            const float m = (float)P[3] + B1 * j + B2 * i;
            const float t = ((float)P[0] + A1 * j + A2 * i) / m;
            const float move = 0.5f * fmaxf(fabsf(A1 - t * B1), fabsf(A2 - t * B2));
            const float reach = move / (m - 0.5f * fmaxf(fabsf(B1), fabsf(B2))) + 0.01f;
            const int first_column = max(0, (int)ceilf(t - reach - 0.5f));
            const int last_column = min(columns - 1, (int)floorf(t + reach + 0.5f));
            if (first_column > last_column) continue;
            const float a = (float)remainders[3 * v], b = (float)remainders[3 * v + 1];
            const float h = (float)remainders[3 * v + 2], step = m * h;
            const float voxel = (float)(k - anchors[2 * v]);
            float row = floorf((voxel - a) * (1.0f / step) - b / h);
            if (lower_edge(row, a, b, h, m) > voxel) row -= 1.0f;
            const int straight = anchors[2 * v + 1];
            float sum = 0.0f;
            for (int u = first_column; u <= last_column; ++u) {
                const long long ray = (long long)v * columns + u;
                const long long* s = shadows + 5 * ray;
                const int q = s[4] ? j : i, p = s[4] ? i : j;
                const long long e = s[0] + s[1] * q, f = s[2] + s[3] * q;
                const long long low = e < f ? e : f, high = e < f ? f : e;
                const long long left = (long long)p << 32;
                const long long end = high < left + one ? high : left + one;
                const long long common = end - (low > left ? low : left);
                if (common <= 0) continue;
                const float w = (float)common / (float)(high - low);
                float part = 0.0f, edge = row;
                for (int r = (int)row + straight;; ++r, edge += 1.0f) {
                    const float below = lower_edge(edge, a, b, h, m) - voxel;
                    if (below >= 1.0f || r >= n_rows) break;
                    if (r >= 0) part = fmaf(overlap(below, step), weighted[ray * n_rows + r], part);
                }
                sum = fmaf(w, part, sum);
            }
            total = fmaf(1.0f / step, sum, total);
        }
        volume[(long long)blockIdx.x * nz + k] = total;
    }
}
