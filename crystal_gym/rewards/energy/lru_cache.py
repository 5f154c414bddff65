"""Answers that are remembered up to a number, the longest unused forgotten first."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any


class LRUCache:
    """A dictionary that holds at most ``size`` entries.

    Unlike ``functools.lru_cache`` it tells what is missing, so that misses are computed together,
    and it can be pickled.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._entries: OrderedDict[Hashable, Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def __getitem__(self, key: Hashable) -> Any:
        self._entries.move_to_end(key)
        return self._entries[key]

    def __setitem__(self, key: Hashable, value: Any) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self.size:
            self._entries.popitem(last=False)
