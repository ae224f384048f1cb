// Operations of a relaxation on integers of arbitrary width, for Vitis HLS and Vivado HLS (C++11).
//
// Every width is proved by the compiler that generated the calls: the type of a result holds it. What is added on the way
// is kept in that type too: exact modulo 2^width, hence exact in the end, in any order.
#ifndef EQ_OPS_H_
#define EQ_OPS_H_

#include "ap_int.h"

namespace eq {

// x / 2^SHIFT to the nearest integer, ties towards plus infinity.
template <class Y, int SHIFT, class X> Y half_up(const X x) {
    #pragma HLS INLINE
    const ap_int<SHIFT + 2> half = SHIFT == 0 ? 0 : 1LL << (SHIFT == 0 ? 0 : SHIFT - 1);
    return Y((x + half) >> SHIFT);
}

template <class Y, int SHIFT, class X, class M> Y rescale(const X x, const M multiplier) {
    #pragma HLS INLINE
    return half_up<Y, SHIFT>(x * multiplier);
}

// old + (new - old) * multiplier / 2^SHIFT, to the nearest.
template <class Y, int SHIFT, class A, class B, class M> Y damp(const A old, const B now, const M multiplier) {
    #pragma HLS INLINE
    return Y(old + half_up<Y, SHIFT>((now - old) * multiplier));
}

template <class Y, class X> Y absolute(const X x) {
    #pragma HLS INLINE
    return x < 0 ? Y(-x) : Y(x);
}

template <class WIDE, class A, class B> bool greater(const A a, const B b) {
    #pragma HLS INLINE
    return WIDE(a) > WIDE(b);
}

// floor((a * 2^SHIFT + b / 2) / b), b > 0.
template <class Y, int SHIFT, class WIDE, class A, class B> Y divide(const A a, const B b) {
    #pragma HLS INLINE
    const WIDE divisor = b;
    const WIDE dividend = WIDE(WIDE(a) << SHIFT) + WIDE(divisor >> 1);
    const WIDE quotient = dividend / divisor;
    const WIDE rest = dividend % divisor;
    return rest < 0 ? Y(quotient - 1) : Y(quotient);
}

// The largest y with y * y <= x, 0 for a negative x; BITS: of the largest root. One bit of y in each turn.
template <class Y, int BITS, class X> Y isqrt(const X x) {
    #pragma HLS INLINE
    const ap_uint<2 * BITS + 1> positive = x < 0 ? ap_uint<2 * BITS + 1>(0) : ap_uint<2 * BITS + 1>(x);
    ap_uint<BITS + 1> y = 0;
ROOT:
    for (int bit = BITS - 1; bit >= 0; bit--) {
        #pragma HLS UNROLL
        const ap_uint<BITS + 1> next = y | ap_uint<BITS + 1>(ap_uint<BITS + 1>(1) << bit);
        if (next * next <= positive) y = next;
    }
    return Y(y);
}

// Place of x in a domain of SIZE codes from `first`; what lies outside saturates.
template <class WIDE, class X> WIDE place(const X x, const WIDE first, const WIDE size) {
    #pragma HLS INLINE
    const WIDE at = WIDE(x) - first;
    return at < 0 ? WIDE(0) : at >= size ? WIDE(size - 1) : at;
}

template <class Y, class WIDE, class X, class T, unsigned N>
Y lookup(const X x, const T (&table)[N], const WIDE first, const WIDE size) {
    #pragma HLS INLINE
    return Y(table[place<WIDE>(x, first, size).to_uint()]);
}

// A line within each segment of 2^SHIFT codes.
template <class Y, int SHIFT, class WIDE, class X, class B, class S, unsigned N>
Y interpolate(const X x, const B (&base)[N], const S (&slope)[N], const WIDE first, const WIDE size) {
    #pragma HLS INLINE
    const WIDE at = place<WIDE>(x, first, size);
    const unsigned segment = WIDE(at >> SHIFT).to_uint();
    const ap_uint<SHIFT + 1> fraction = at & WIDE((WIDE(1) << SHIFT) - 1);
    return Y(base[segment] + half_up<Y, SHIFT>(slope[segment] * fraction));
}

// What a weight and an operand give: a sign needs no multiplier.
struct ternary {
    template <class Y, class X, class W> static Y of(const X x, const W w) {
        #pragma HLS INLINE
        return w == 0 ? Y(0) : w < 0 ? Y(-x) : Y(x);
    }
};

struct multiply {
    template <class Y, class X, class W> static Y of(const X x, const W w) {
        #pragma HLS INLINE
        return Y(x * w);
    }
};

struct no_bias {
    int operator[](unsigned) const { return 0; }
};

// y = W x + bias. The products are made in turns_out * turns_in turns of `lanes` multipliers; the weights of a turn stand
// side by side in one word.
template <class CONFIG_T, class X, class W, class B, class Y>
void linear(const X x[CONFIG_T::n_in], const W weight[CONFIG_T::n_in * CONFIG_T::n_out], const B &bias, Y y[CONFIG_T::n_out]) {
    const unsigned inputs = CONFIG_T::n_in / CONFIG_T::turns_in;
    const unsigned outputs = CONFIG_T::n_out / CONFIG_T::turns_out;
    const unsigned lanes = inputs * outputs;
    #pragma HLS ARRAY_RESHAPE variable=weight cyclic factor=lanes
OUTPUTS:
    for (unsigned group = 0; group < CONFIG_T::turns_out; group++) {
    INPUTS:
        for (unsigned turn = 0; turn < CONFIG_T::turns_in; turn++) {
            #pragma HLS PIPELINE II=1
            const unsigned word = (group * CONFIG_T::turns_in + turn) * lanes;
        LANES:
            for (unsigned o = 0; o < outputs; o++) {
                #pragma HLS UNROLL
                const unsigned row = group * outputs + o;
                Y sum = turn == 0 ? Y(bias[row]) : y[row];
                for (unsigned i = 0; i < inputs; i++) {
                    #pragma HLS UNROLL
                    sum += CONFIG_T::product::template of<Y>(x[turn * inputs + i], weight[word + o * inputs + i]);
                }
                y[row] = sum;
            }
        }
    }
}

// y[n] = sum_k weight[n, k] * x[index[n, k]] + bias[n]; a tap outside has the weight 0.
template <class CONFIG_T, class X, class W, class I, class B, class Y>
void stencil(const X x[CONFIG_T::n_in], const W weight[CONFIG_T::n_out * CONFIG_T::taps],
             const I index[CONFIG_T::n_out * CONFIG_T::taps], const B &bias, Y y[CONFIG_T::n_out]) {
    const unsigned sites = CONFIG_T::n_out / CONFIG_T::turns_out;
    const unsigned lanes = sites * CONFIG_T::taps;
    #pragma HLS ARRAY_RESHAPE variable=weight cyclic factor=lanes
    #pragma HLS ARRAY_RESHAPE variable=index cyclic factor=lanes
SITES:
    for (unsigned group = 0; group < CONFIG_T::turns_out; group++) {
        #pragma HLS PIPELINE II=1
    LANES:
        for (unsigned n = 0; n < sites; n++) {
            #pragma HLS UNROLL
            const unsigned site = group * sites + n;
            Y sum = Y(bias[site]);
            for (unsigned k = 0; k < CONFIG_T::taps; k++) {
                #pragma HLS UNROLL
                const unsigned tap = site * CONFIG_T::taps + k;
                sum += CONFIG_T::product::template of<Y>(x[index[tap].to_uint()], weight[tap]);
            }
            y[site] = sum;
        }
    }
}

} // namespace eq

#endif
