"""The command: exit status 0 where every claim is replayed, 1 where one does not follow or a file was changed, 2 where
the net holds what this program does not know or a file cannot be read."""

from __future__ import annotations

import sys
from pathlib import Path

from .document import check
from .reading import RefusalError, UnknownError


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m eqcompile.toolchain.checker certificate.json net.onnx\n")
        return 2
    try:
        certificate, net = (Path(name).read_bytes() for name in arguments)
        lines = check(certificate, net)
    except RefusalError as error:
        sys.stderr.write(f"REFUSED: {error}\n")
        return 1
    except UnknownError as error:
        sys.stderr.write(f"not replayed: this program does not know {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"cannot read: {error}\n")
        return 2
    sys.stdout.write("\n".join([*lines, "every claim is replayed"]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
