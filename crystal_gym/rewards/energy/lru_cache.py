"""A cache that drops the least recently used entry."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any


class LRUCache:
    """A dictionary with at most ``size`` entries.

    Unlike ``functools.lru_cache`` it reports which keys are missing, so that their values can be
    computed in one batch, and it can be pickled.

    Args:
        size: Maximum number of entries.
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
