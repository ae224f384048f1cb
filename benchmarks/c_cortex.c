/* Instructions of an inference on an emulated Cortex-M: of the target c, and of int8 kernels shaped like those of CMSIS-NN
 * that do the same matrix products. Takes the place of main.c. Reads the number of samples (a byte) and their codes, and
 * writes for each: ticks, instructions of eq_run, of the kernels, and a checksum of what the kernels gave.
 *
 * `qemu -icount shift=0` counts an instruction as a nanosecond; SysTick runs at 25 MHz, so 40 instructions are a tick of it.
 */
#include <stddef.h>
#include <stdint.h>

#include "eq.h"
#include "io.h"
#include "matrices.h"

enum { INSTRUCTIONS = 40 };
static volatile uint32_t *const SYSTICK = (volatile uint32_t *)0xE000E010u; /* control, reload, current */

static eq_state state;
static eq_input in;
static eq_output out;
static int8_t given[INPUTS], made[UNITS];
static int32_t checksum;

static uint32_t passed(void)
{
    const uint32_t left = SYSTICK[2];
    return (0xFFFFFFu - left) * INSTRUCTIONS;
}

static void start(void)
{
    SYSTICK[0] = 0;
    SYSTICK[1] = 0xFFFFFFu;
    SYSTICK[2] = 0;
    SYSTICK[0] = 5;
}

static int32_t requantized(int32_t value)
{
    /* As arm_nn_requantize: the high half of a product, then a rounding shift. */
    const int32_t high = (int32_t)(((int64_t)value * 0x40000000 + (1 << 30)) >> 31);
    return (high + (1 << 4)) >> 5;
}

/* As arm_nn_vec_mat_mult_t_s8 of a core without DSP instructions: three rows at a time, an offset of the vector, and
 * every sum requantized, clamped and stored as int8. */
static void product(const int8_t *x, const int8_t *rows, int8_t *to, int32_t offset, int32_t columns, int32_t count)
{
    for (int32_t row = 0; row < count; row += 3) {
        const int32_t last = count - row - 1;
        const int8_t *first = rows + row * columns;
        const int8_t *second = first + (last > 0 ? columns : 0), *third = second + (last > 1 ? columns : 0);
        const int8_t *entry = x;
        int32_t sums[3] = {0, 0, 0};
        for (int32_t column = columns; column > 0; column--) {
            const int32_t value = *entry++ + offset;
            sums[0] += value * *first++;
            sums[1] += value * *second++;
            sums[2] += value * *third++;
        }
        for (int32_t k = 0; k <= (last < 2 ? last : 2); k++) {
            int32_t code = requantized(sums[k]);
            code = code < -128 ? -128 : (code > 127 ? 127 : code);
            to[row + k] = (int8_t)code;
            checksum += sums[k];
        }
    }
}

static void put(uint32_t value, char end)
{
    char digits[10];
    int count = 0;
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    while (count > 0) {
        io_put(digits[--count]);
    }
    io_put(end);
}

int run_file(void)
{
    const int samples = io_get();
    for (int sample = 0; sample < samples; sample++) {
        uint32_t ticks, ours, theirs;
        for (size_t i = 0; i < INPUTS; i++) {
            const int code = io_get();
            in.x[i] = (uint8_t)code;
            given[i] = (int8_t)(code - 128);
        }
        start();
        ticks = eq_run(&state, &in, &out);
        ours = passed();
        checksum = 0;
        start();
        product(given, W_IN, made, 128, INPUTS, UNITS);
        for (uint32_t tick = 0; tick < ticks; tick++) {
            product(state.h, W_REC, made, 0, UNITS, UNITS);
        }
        product(state.h, W_OUT, made, 0, UNITS, OUTPUTS);
        theirs = passed();
        put(ticks, ' ');
        put(ours, ' ');
        put(theirs, ' ');
        put((uint32_t)checksum, '\n');
    }
    return 0;
}
