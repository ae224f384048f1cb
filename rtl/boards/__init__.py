"""Boards: a UART front end around an engine, and the pins of each board."""

from .board import TOP, Board, BoardTop, board_verilog
from .icebreaker import ICEBREAKER
from .link import Command, Link
from .uart import Receiver, Transmitter
from .ulx3s import ULX3S

__all__ = ["BOARDS", "TOP", "Board", "BoardTop", "Command", "Link", "Receiver", "Transmitter", "board_verilog"]

BOARDS: dict[str, Board] = {b.name: b for b in (ULX3S, ICEBREAKER)}
