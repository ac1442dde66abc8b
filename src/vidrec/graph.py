"""One op of torch's that calls Python: in a graph of torch.compile it stays one node, and does not break the graph."""

import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

_numbers = itertools.count()
_calls: "weakref.WeakValueDictionary[int, Call]" = weakref.WeakValueDictionary()


class Call:
    """Calls a method with tensors and numbers, also out of a graph; does not keep the method's object alive.

    The graph knows it by a number. The op says that it changes a tensor, `order`: so it is neither left out, although
    it returns nothing, nor moved before an earlier one.
    """

    def __init__(self, method: Callable[[Sequence[Tensor], Sequence[int]], Any]) -> None:
        self.method, self.number, self.order = weakref.WeakMethod(method), next(_numbers), torch.zeros((), device="cpu")
        _calls[self.number] = self

    def __call__(self, values: Sequence[Tensor], which: Sequence[int]) -> None:
        _call(self.order, self.number, [value.detach() for value in values], which)


@torch.library.custom_op("vidrec::call", mutates_args=("order",))
def _call(order: Tensor, number: int, values: Sequence[Tensor], which: Sequence[int]) -> None:
    method = _calls[number].method()
    if method is not None:
        method(values, which)


@_call.register_fake
def _(order: Tensor, number: int, values: Sequence[Tensor], which: Sequence[int]) -> None:
    """Do nothing while the graph is made."""
