// The pins of a board's top, compiled by Verilator, as a serial port: bytes of standard input go to `rx`, bytes on `tx`
// to standard output, 8N1 with DIVISOR clocks a bit.
#include <poll.h>
#include <unistd.h>

#include <cstdlib>
#include <deque>

#include "Vboard_top.h"
#include "verilated.h"

namespace {

constexpr int kBurst = 4096;  // clocks between two looks at the input

bool waiting(int timeout_ms) {
    pollfd in{0, POLLIN, 0};
    return poll(&in, 1, timeout_ms) > 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    const int divisor = std::atoi(argv[1]);
    VerilatedContext context;
    Vboard_top top{&context};
    std::deque<bool> line;
    int phase = 0, at = -1, byte = 0, quiet = 0;
    top.rx = 1;
    for (long clock = 0;; ++clock) {
        if (clock % kBurst == 0) {
            // With nothing under way on either pin the design's clock may stand still.
            const bool idle = line.empty() && at < 0 && ++quiet > 64;
            if (waiting(idle ? 50 : 0)) {
                unsigned char found[4096];
                const ssize_t count = read(0, found, sizeof found);
                if (count <= 0) return 0;
                for (ssize_t i = 0; i < count; ++i) {
                    line.push_back(false);
                    for (int bit = 0; bit < 8; ++bit) line.push_back(found[i] >> bit & 1);
                    line.push_back(true);
                }
                quiet = 0;
            }
        }
        if (phase == 0 && !line.empty()) {
            top.rx = line.front();
            line.pop_front();
        }
        phase = (phase + 1) % divisor;
        top.clk = 1;
        top.eval();
        top.clk = 0;
        top.eval();
        if (at < 0) {
            if (!top.tx) at = byte = 0;
            continue;
        }
        ++at;
        const int bit = at / divisor;
        if (at % divisor != divisor / 2 || bit == 0) continue;
        if (bit <= 8) {
            byte |= top.tx << (bit - 1);
        } else {
            const unsigned char answer = byte;
            if (!top.tx || write(1, &answer, 1) != 1) return 3;
            at = -1;
            quiet = 0;
        }
    }
}
