"""Contents of memories, moved from statements into files.

A memory's initial words are one assignment each in the Verilog of a core. Yosys makes a cell of each and
takes minutes over tables of some 100,000 words; one `$readmemh` says the same and takes a second.
"""

from __future__ import annotations

import re

__all__ = ["gathered"]

_INITIAL = re.compile(
    r"^  initial begin\n(?P<rest>    for .*\n)?(?P<body>(?:    \S+ *\[\d+\] = \d+'h[0-9a-f]+;\n)+)  end\n", re.MULTILINE
)
_WORD = re.compile(r"^    (\S+) *\[(\d+)\] = \d+'h([0-9a-f]+);$", re.MULTILINE)


def gathered(verilog: str) -> tuple[str, dict[str, str]]:
    """The same design with a `$readmemh` for every memory whose words are given from 0 on without a gap, and the files
    that it reads, by name.
    """
    files: dict[str, str] = {}

    def replaced(match: re.Match[str]) -> str:
        words = _WORD.findall(match["body"])
        name = words[0][0]
        if any(other != name or int(index) != i for i, (other, index, _) in enumerate(words)):
            return match[0]
        file = f"memory_{len(files)}.hex"
        files[file] = "".join(f"{word}\n" for _, _, word in words)
        rest = f"  initial begin\n{match['rest']}  end\n" if match["rest"] else ""
        # An escaped name ends with a space.
        return f'{rest}  initial $readmemh("{file}", {name} , 0, {len(words) - 1});\n'

    return _INITIAL.sub(replaced, verilog), files
