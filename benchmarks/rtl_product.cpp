// Gives a core that Verilator compiled (clk, x, y) a new operand every clock and writes what comes out.
//
//     product IN OUT SAMPLES XWORDS YWORDS LATENCY
//
// IN, OUT: uint32 words of x and of y, the lowest first, SAMPLES times; LATENCY: clocks from x to y.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "Vcore.h"
#include "verilated.h"

namespace {

// Verilator's ports: an integer up to 64 bits, else 32-bit words, the lowest first.
template <class T> void set_word(T& port, size_t at, uint32_t word) {
    port = at == 0 ? T(word) : T(port | uint64_t(word) << 32);
}
template <std::size_t N> void set_word(VlWide<N>& port, size_t at, uint32_t word) { port[at] = word; }
template <class T> uint32_t get_word(const T& port, size_t at) { return uint32_t(uint64_t(port) >> 32 * at); }
template <std::size_t N> uint32_t get_word(const VlWide<N>& port, size_t at) { return port[at]; }

}  // namespace

int main(int argc, char** argv) {
    if (argc != 7) return 2;
    size_t given[4];
    for (int i = 0; i < 4; ++i) given[i] = std::strtoul(argv[3 + i], nullptr, 10);
    const auto [samples, x_words, y_words, latency] = given;
    std::vector<uint32_t> x(samples * x_words), y;
    std::FILE* in = std::fopen(argv[1], "rb");
    std::FILE* out = std::fopen(argv[2], "wb");
    if (!in || !out || std::fread(x.data(), sizeof(uint32_t), x.size(), in) != x.size()) return 3;
    VerilatedContext context;
    Vcore core{&context};
    for (size_t clock = 0; clock < samples + latency; ++clock) {
        for (size_t w = 0; w < x_words && clock < samples; ++w) set_word(core.x, w, x[clock * x_words + w]);
        core.clk = 0;
        core.eval();
        if (clock >= latency) {
            for (size_t w = 0; w < y_words; ++w) y.push_back(get_word(core.y, w));
        }
        core.clk = 1;
        core.eval();
    }
    std::fwrite(y.data(), sizeof(uint32_t), y.size(), out);
    return std::fclose(out) == 0 ? 0 : 4;
}
