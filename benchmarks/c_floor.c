/* What no kernel here can beat: `c_floor REPEATS BYTES` prints picoseconds, the best of REPEATS: to read BYTES that lie in
 * cache, and for one addition of 16-bit codes in full vector registers. */
#define _POSIX_C_SOURCE 200809L
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LANES = 16, BLOCK = 4, ROUNDS = 1000 };
typedef int16_t vector __attribute__((vector_size(LANES * sizeof(int16_t))));

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int count, char **arguments)
{
    const int repeats = count > 1 ? atoi(arguments[1]) : 1;
    const size_t bytes = count > 2 ? (size_t)atoll(arguments[2]) : 1;
    const size_t blocks = (bytes + BLOCK * sizeof(vector) - 1) / (BLOCK * sizeof(vector));
    void *memory = NULL;
    vector *data;
    vector sum[BLOCK] = {{0}};
    double reading = 1e30, adding = 1e30;
    if (posix_memalign(&memory, 64, blocks * BLOCK * sizeof(vector)) != 0) {
        return 1;
    }
    data = memory;
    memset(data, 1, blocks * BLOCK * sizeof(vector));
    for (int pass = 0; pass < repeats; pass++) {
        long long start = now(), taken;
        for (int round = 0; round < ROUNDS; round++) {
            for (size_t k = 0; k < blocks; k++) {
                for (int j = 0; j < BLOCK; j++) {
                    sum[j] |= data[k * BLOCK + j];
                }
            }
            __asm__ volatile("" : "+x"(sum[0]), "+x"(sum[1]), "+x"(sum[2]), "+x"(sum[3]) : : "memory");
        }
        taken = now() - start;
        reading = (double)taken < reading ? (double)taken : reading;
        start = now();
        for (int round = 0; round < ROUNDS * 100; round++) {
            for (int j = 0; j < BLOCK; j++) {
                sum[j] += sum[j];
                __asm__ volatile("" : "+x"(sum[j]));
            }
        }
        taken = now() - start;
        adding = (double)taken < adding ? (double)taken : adding;
    }
    printf("%.1f %.4f\n", reading * 1000 / ROUNDS, adding * 1000 / (ROUNDS * 100.0 * BLOCK * LANES));
    return 0;
}
