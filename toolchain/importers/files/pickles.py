"""Reading a pickle as data: what it would make, without making it.

`survey` walks the opcodes of a checkpoint's pickle and builds the same tree of dictionaries, lists and numbers, with a
`StoredTensor` where a tensor stands and an `Opaque` for every other object. It imports nothing, calls nothing and
allocates no tensor, so sizes can be judged and names refused before a number is read. It takes the opcodes that
`torch.save` writes for tensors and plain values and refuses all others.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

__all__ = ["Opaque", "PickleError", "Storage", "StoredTensor", "Survey", "foreign_globals", "survey"]

STORAGES: Mapping[str, tuple[str, int]] = {
    "torch DoubleStorage": ("float64", 8),
    "torch FloatStorage": ("float32", 4),
    "torch HalfStorage": ("float16", 2),
    "torch BFloat16Storage": ("bfloat16", 2),
    "torch LongStorage": ("int64", 8),
    "torch IntStorage": ("int32", 4),
    "torch ShortStorage": ("int16", 2),
    "torch CharStorage": ("int8", 1),
    "torch ByteStorage": ("uint8", 1),
    "torch BoolStorage": ("bool", 1),
}
"""Global name of a typed storage (module and name, as the opcode spells them): element type and bytes an element."""

_REBUILD = "torch._utils _rebuild_tensor_v2"
_PARAMETER = "torch._utils _rebuild_parameter"
_DICTIONARIES = frozenset(("collections OrderedDict", "collections Counter"))
_RECORDS = frozenset(
    (
        "argparse Namespace",
        "lightning.fabric.utilities.data AttributeDict",
        "lightning_fabric.utilities.data AttributeDict",
        "pytorch_lightning.utilities.parsing AttributeDict",
    )
)
"""Tables of options that training scripts put beside the weights: dictionaries here, their attributes dropped."""
_PLAIN = frozenset(("torch Size", "torch device"))
_DTYPES = frozenset(f"torch {name}" for name, _ in STORAGES.values())
_ALLOWED = frozenset((*STORAGES, _REBUILD, _PARAMETER, *_DICTIONARIES, *_RECORDS, *_PLAIN, *_DTYPES))
_CONSTANTS = frozenset(("NONE", "NEWFALSE", "NEWTRUE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"))
_CONSTANT_VALUES: Mapping[str, object] = {"NONE": None, "NEWFALSE": False, "NEWTRUE": True}
_EMPTY: Mapping[str, type[dict[str, object] | list[object] | tuple[object, ...]]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_TUPLES: Mapping[str, int] = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class PickleError(ValueError):
    """The bytes are not a pickle that `torch.save` writes; the message is one clause."""


@dataclass(frozen=True)
class Storage:
    """A block of `elements` numbers stored under `key` beside the pickle."""

    key: str
    dtype: str
    item_bytes: int
    elements: int


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A view of a storage, in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Opaque:
    """A name that the pickle mentions (a dtype, a class), or the result of a harmless call that was not made."""

    name: str


@dataclass
class Survey:
    """The value that a pickle would make, with its storages by key and its tensors in order of appearance; a name for
    each tensor (by identity: the last dictionary key it was put under); and the offset behind the pickle's last byte.
    """

    value: object = None
    storages: dict[str, Storage] = field(default_factory=dict)
    tensors: list[StoredTensor] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    end: int = 0

    def name_of(self, tensor: StoredTensor) -> str:
        return self.names.get(id(tensor), "a tensor without a name")


def _dotted(name: str) -> str:
    """`module.name` of a global, which its opcode spells with a space."""
    return name.replace(" ", ".", 1)


def foreign_globals(data: bytes) -> list[str]:
    """Every global that the first pickle in `data` names outside the allowed set, as `module.name`, as far as the
    bytes can be read; nothing is imported."""
    names: dict[str, None] = {}
    pushed: list[str | None] = [None, None]
    with _quiet(), suppress(ValueError):
        for opcode, arg, _ in pickletools.genops(data):
            if opcode.name in ("GLOBAL", "INST"):
                if arg not in _ALLOWED:
                    names[_dotted(str(arg))] = None
            elif opcode.name == "STACK_GLOBAL":
                module, name = pushed[-2:]
                names[f"{module}.{name}" if module and name else "a name that it computes"] = None
            elif opcode.name != "MEMOIZE":
                pushed.append(arg if isinstance(arg, str) else None)
    return list(names)


def survey(data: bytes) -> Survey:
    """Walk the first pickle in `data`; PickleError if `torch.save` would not have written it."""
    machine = _Machine()
    try:
        with _quiet():
            for opcode, arg, position in pickletools.genops(data):
                machine.survey.end = (position or 0) + 1
                machine.do(opcode.name, arg)
    except PickleError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise PickleError(f"the pickle is damaged ({type(error).__name__}: {str(error)[:120]})") from None
    return machine.survey


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings that text opcodes with odd escapes give."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _Machine:
    """The stack machine of a pickle, over inert values."""

    def __init__(self) -> None:
        self.survey = Survey()
        self.stack: list[object] = []
        self.marks: list[list[object]] = []
        self.memo: dict[object, object] = {}

    def do(self, name: str, arg: object) -> None:
        stack = self.stack
        if name in _CONSTANTS:
            stack.append(_CONSTANT_VALUES.get(name, arg))
        elif name == "BINUNICODE":
            stack.append(arg)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[arg] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[arg])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            self.marks.append(stack)
            self.stack = []
        elif name == "TUPLE":
            items = tuple(self._to_mark())
            self.stack.append(items)
        elif name in _TUPLES:
            count = _TUPLES[name]
            if len(stack) < count:
                raise PickleError("the pickle is damaged (its stack is empty)")
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "APPEND":
            self._extend([stack.pop()])
        elif name == "APPENDS":
            self._extend(self._to_mark())
        elif name == "SETITEM":
            value = stack.pop()
            self._update([stack.pop(), value])
        elif name == "SETITEMS":
            self._update(self._to_mark())
        elif name == "GLOBAL":
            if arg not in _ALLOWED:
                raise PickleError(f"it names {_dotted(str(arg))}")
            stack.append(Opaque(str(arg)))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(self._call(stack.pop(), arguments))
        elif name == "NEWOBJ" and stack[-1] == () and isinstance(stack[-2], Opaque) and stack[-2].name in _RECORDS:
            stack[-2:] = [{}]
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name == "BUILD":
            # A tensor's state would replace the sizes that are judged here.
            state = stack.pop()
            if not isinstance(stack[-1], dict) or not isinstance(state, dict):
                raise PickleError("it sets the attributes of something that is not a dictionary")
        elif name == "STOP":
            self.survey.value = stack.pop()
        elif name != "PROTO":
            raise PickleError(f"it uses the opcode {name}, which no checkpoint of tensors needs")

    def _to_mark(self) -> list[object]:
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def _extend(self, items: list[object]) -> None:
        if not isinstance(self.stack[-1], list):
            raise PickleError("it appends to something that is not a list")
        self.stack[-1].extend(items)

    def _update(self, items: list[object]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise PickleError("it sets items of something that is not a dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Nested tuples as keys take exponential time to hash; no checkpoint has them.
            if not isinstance(key, (str, int, float, bool, type(None))):
                raise PickleError(f"it has a dictionary with a key of type {type(key).__name__}")
            if isinstance(value, StoredTensor):
                self.survey.names[id(value)] = str(key)
            target[key] = value

    def _call(self, function: object, arguments: object) -> object:
        if not isinstance(function, Opaque) or not isinstance(arguments, tuple):
            raise PickleError("it calls something that has no name")
        if function.name == _REBUILD:
            return self._tensor(arguments)
        if function.name == _PARAMETER and arguments and isinstance(arguments[0], StoredTensor):
            return arguments[0]
        if function.name in _DICTIONARIES and (not arguments or isinstance(arguments[0], dict)):
            return arguments[0] if arguments else {}
        if function.name in _PLAIN and all(isinstance(a, (str, int, tuple)) for a in arguments):
            return Opaque(function.name)
        raise PickleError(f"it calls {_dotted(function.name)} with arguments that torch.save does not write")

    def _tensor(self, arguments: tuple[object, ...]) -> StoredTensor:
        match arguments:
            case (Storage() as storage, int() as offset, tuple() as shape, tuple() as stride, _, _) if len(
                shape
            ) == len(stride) and all(type(n) is int and n >= 0 for n in (*shape, *stride, offset)):
                tensor = StoredTensor(storage, offset, shape, stride)
                self.survey.tensors.append(tensor)
                return tensor
            case _:
                raise PickleError("it has a tensor with arguments that torch.save does not write")

    def _storage(self, token: object) -> Storage:
        # Six entries in files older than torch 1.6, the last one for views, which this reader does not take.
        match token:
            case ("storage", Opaque(name=kind), key, location, elements, *rest) if kind in STORAGES and rest in (
                [],
                [None],
            ):
                pass
            case _:
                raise PickleError("it refers to data that is not a plain tensor storage")
        if not isinstance(key, str) or not isinstance(location, str) or type(elements) is not int or elements < 0:
            raise PickleError("it has a storage with arguments that torch.save does not write")
        storage = Storage(key, *STORAGES[kind], elements)
        if self.survey.storages.setdefault(key, storage) != storage:
            raise PickleError(f"it gives storage {key[:40]!r} two sizes")
        return storage
