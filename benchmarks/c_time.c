/* Times eq_run of an artifact of the target c: `c_time REPEATS < codes` prints, for each of REPEATS passes over the samples,
 * nanoseconds of a pass, then the sum of ticks made and a checksum of the outputs. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "eq.h"

static eq_state state;
static eq_output out;

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int count, char **arguments)
{
    const int repeats = count > 1 ? atoi(arguments[1]) : 1;
    size_t samples = 0;
    eq_input *in;
    unsigned long long ticks = 0, sum = 0;
    if (fread(&samples, sizeof samples, 1, stdin) != 1) {
        return 1;
    }
    in = malloc(samples * sizeof *in);
    if (in == NULL || fread(in, sizeof *in, samples, stdin) != samples) {
        return 1;
    }
    for (int pass = 0; pass < repeats; pass++) {
        const long long start = now();
        for (size_t k = 0; k < samples; k++) {
            const unsigned char *bytes = (const unsigned char *)&out;
            ticks += eq_run(&state, &in[k], &out);
            for (size_t i = 0; i < sizeof out; i++) {
                sum += bytes[i];
            }
        }
        printf("%lld\n", now() - start);
    }
    printf("%llu %llu\n", ticks, sum);
    return 0;
}
