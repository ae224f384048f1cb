// One sample a row, on a core that begins anew, with one bit flipped in one clock.
//
//     driver IN OUT
//
// IN:  int64 rows, then for each row int64 clock (from the first beat on), site (-1: none), word, bit, and its codes.
// OUT: int64 for each row: 1 if no result came, TUSER of the last beat, clocks, FAULTS, CORRECTED, DETECTED, the codes.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "Vcore.h"
#include "Vcore___024root.h"
#include "verilated.h"

template <class T> void flip(T& value, int64_t bit) { value = T(value ^ (T(1) << bit)); }
template <std::size_t N> void flip(VlWide<N>& value, int64_t bit) { value[bit / 32] ^= uint32_t(1) << (bit % 32); }

#include "sites.h"

namespace {

std::unique_ptr<VerilatedContext> context;
std::unique_ptr<Vcore> core;

void settle() {
    core->clk = 0;
    core->eval();
}

void rise() {
    core->clk = 1;
    core->eval();
}

int64_t read_register(uint32_t address) {
    core->s_axil_araddr = address;
    core->s_axil_arvalid = core->s_axil_rready = 1;
    for (int wait = 0; wait < 100; ++wait) {
        settle();
        const bool taken = core->s_axil_arvalid && core->s_axil_arready, answered = core->s_axil_rvalid;
        const int64_t value = core->s_axil_rdata;
        rise();
        if (taken) core->s_axil_arvalid = 0;
        if (answered) return value;
    }
    return -1;
}

int64_t code(uint64_t bits) {
    const int unused = 64 - kYBits;
    return kYSigned ? int64_t(bits << unused) >> unused : int64_t(bits << unused >> unused);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    std::FILE* in = std::fopen(argv[1], "rb");
    std::FILE* out = std::fopen(argv[2], "wb");
    int64_t rows = 0;
    if (!in || !out || std::fread(&rows, 8, 1, in) != 1) return 2;
    std::vector<int64_t> row(4 + kXCount);
    for (int64_t number = 0; number < rows; ++number) {
        if (std::fread(row.data(), 8, row.size(), in) != row.size()) return 2;
        core.reset();
        context = std::make_unique<VerilatedContext>();
        core = std::make_unique<Vcore>(context.get());
        core->rst = 1;
        for (int i = 0; i < 4; ++i) {
            settle();
            rise();
        }
        core->rst = 0;
        core->m_axis_tready = 1;
        int64_t clock = -1, sent = 0, made = 0;
        std::vector<int64_t> result;
        bool ended = false;
        while (!ended && clock < kLimit) {
            core->s_axis_tvalid = sent < kXCount;
            core->s_axis_tdata = sent < kXCount ? row[4 + sent] : 0;
            core->s_axis_tlast = sent == kXCount - 1;
            settle();
            if (core->s_axis_tvalid && core->s_axis_tready) {
                ++sent;
                if (clock < 0) clock = 0;
            }
            if (core->m_axis_tvalid && result.size() < size_t(kYCount)) {
                result.push_back(code(core->m_axis_tdata));
                made = core->m_axis_tuser;
                ended = core->m_axis_tlast;
            }
            rise();
            if (clock >= 0) {
                if (clock == row[0] && row[1] >= 0) deposit(*core->rootp, row[1], row[2], row[3]);
                ++clock;
            }
        }
        core->s_axis_tvalid = 0;
        std::vector<int64_t> found = {ended ? 0 : 1, made, clock, 0, 0, 0};
        if (kHardened) {
            found[3] = read_register(0x2C);
            found[4] = read_register(0x30);
            found[5] = read_register(0x34);
        }
        result.resize(kYCount);
        found.insert(found.end(), result.begin(), result.end());
        if (std::fwrite(found.data(), 8, found.size(), out) != found.size()) return 2;
        core->final();
    }
    return std::fclose(out) != 0;
}
