# SPDX-License-Identifier: Apache-2.0
"""Keeps out of a starting replica what transformers imports for others: compilers, and models over several machines.

Used by `loading.py` while a model is loaded. That is a third of the processor time of a start, and no model here is
compiled or sharded. Whoever asks for more than it takes to mark a function for the compiler gets the real one.
"""

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo"
_ALONE = "torch._dynamo._trace_wrapped_higher_order_op"
"""The one module of the compiler that transformers needs without compiling; it does without the rest."""

_FIRST_ASKER = "transformers.activations"
"""The first of transformers' modules that asks the question and marks functions for the compiler."""

_QUESTION = "is_torch_distributed_available"
"""What transformers asks before it imports torch.distributed.tensor."""


@contextmanager
def slim() -> Iterator[None]:
    """Have transformers import less meanwhile; without effect when it or the compiler has been imported already."""
    if _FIRST_ASKER in sys.modules or _COMPILER in sys.modules:
        yield
        return
    from transformers import utils
    from transformers.utils import import_utils

    for module in (utils, import_utils):
        if hasattr(module, _QUESTION):
            setattr(module, _QUESTION, _no)
    compiler = _NoCompiler()
    sys.modules[_COMPILER] = compiler
    sys.meta_path.insert(0, compiler.finder)
    try:
        yield
    finally:
        compiler.make_way()


def _no() -> bool:
    return False


class _Loaded(Loader):
    """A loader of what is there already."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module as it is."""
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to do."""


class _NoCompiler(ModuleType):
    """Stands for torch's compiler where functions are only marked for it; asked for anything else it makes way."""

    def __init__(self) -> None:
        super().__init__(_COMPILER)
        import torch

        self.__path__ = [f"{place}/_dynamo" for place in torch.__path__]
        self.finder = _Finder(self)

    def disable(self, function: Any = None, *_: Any, **__: Any) -> Any:
        """Mark a function as not to be compiled, as a decorator with or without arguments."""
        return _unchanged if function is None else function

    def allow_in_graph(self, function: Any) -> Any:
        """Mark a function as to be compiled as it is."""
        return function

    def assume_constant_result(self, function: Any) -> Any:
        """Mark a function as one to be asked once."""
        return function

    def make_way(self) -> None:
        """Let the next one who asks import the real compiler."""
        if sys.modules.get(_COMPILER) is self:
            del sys.modules[_COMPILER]
            sys.meta_path.remove(self.finder)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self.make_way()
        return getattr(importlib.import_module(_COMPILER), name)


class _Finder(MetaPathFinder):
    """Asked by the import system first: a module of the compiler needs the real one around it."""

    def __init__(self, compiler: _NoCompiler) -> None:
        self._compiler = compiler

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Nothing, but for modules of the compiler."""
        if not fullname.startswith(f"{_COMPILER}.") or fullname == _ALONE:
            return None
        self._compiler.make_way()
        importlib.import_module(_COMPILER)
        if fullname in sys.modules:
            return ModuleSpec(fullname, _Loaded())
        return PathFinder.find_spec(fullname, path, target)


def _unchanged(function: Any) -> Any:
    return function
