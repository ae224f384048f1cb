// Clocks that a core takes for each sample, counted at its AXI4-Stream ports in a core that Verilator compiled.
//
//     cycles IN OUT SAMPLES X Y TOGETHER
//
// IN: int64 input codes, SAMPLES * X. TOGETHER: 0 gives one sample at a time, 1 the next as soon as the core takes it.
// OUT: for each sample int64 ticks made, clock of its first input code, of its last, of its first and of its last
// output code, and Y output codes (TDATA, not sign-extended).
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "Vcore.h"
#include "verilated.h"

int main(int argc, char** argv) {
    if (argc != 7) return 2;
    const size_t samples = std::strtoul(argv[3], nullptr, 10), x = std::strtoul(argv[4], nullptr, 10);
    const size_t y = std::strtoul(argv[5], nullptr, 10);
    const bool together = argv[6][0] == '1';
    std::vector<int64_t> codes(samples * x), first(samples), last(samples), result;
    std::FILE* in = std::fopen(argv[1], "rb");
    std::FILE* out = std::fopen(argv[2], "wb");
    if (!in || !out || std::fread(codes.data(), sizeof(int64_t), codes.size(), in) != codes.size()) return 3;
    VerilatedContext context;
    Vcore core{&context};
    core.rst = 1;
    for (int i = 0; i < 8; ++i) {
        core.clk = i & 1;
        core.eval();
    }
    core.rst = 0;
    core.m_axis_tready = 1;
    int64_t began = 0;
    size_t sent = 0, done = 0;
    for (int64_t clock = 0, idle = 0; done < samples; ++clock, ++idle) {
        const bool given = sent < codes.size() && (together || sent / x == done);
        core.s_axis_tvalid = given;
        if (given) {
            core.s_axis_tdata = codes[sent];
            core.s_axis_tlast = sent % x == x - 1;
        }
        core.clk = 0;
        core.eval();
        const bool took = given && core.s_axis_tready;
        if (core.m_axis_tvalid) {
            if (result.empty()) began = clock;
            result.push_back(int64_t(core.m_axis_tdata));
            if (core.m_axis_tlast) {
                const int64_t head[] = {int64_t(core.m_axis_tuser), first[done], last[done], began, clock};
                std::fwrite(head, sizeof(int64_t), 5, out);
                std::fwrite(result.data(), sizeof(int64_t), y, out);
                if (result.size() != y) return 4;
                result.clear();
                ++done;
            }
            idle = 0;
        }
        core.clk = 1;
        core.eval();
        if (took) {
            if (sent % x == 0) first[sent / x] = clock;
            if (sent % x == x - 1) last[sent / x] = clock;
            ++sent;
            idle = 0;
        }
        if (idle > (1 << 24)) return 5;
    }
    return std::fclose(out) == 0 ? 0 : 6;
}
