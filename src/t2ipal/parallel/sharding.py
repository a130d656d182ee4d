"""One job over many processes: a process takes its items by their hashes alone."""

from __future__ import annotations

from dataclasses import dataclass

from t2ipal.errors import UserError


@dataclass(frozen=True)
class Shard:
    """Part ``index`` (from 0) of ``count``: every item belongs to exactly one part."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``I/N``, such as ``$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT``.

        Raises:
            UserError: it is not of that form, or I is not one of 0 .. N - 1.
        """
        try:
            index, count = map(int, text.split("/"))
        except ValueError:
            raise UserError(f"--shard must be I/N, such as 0/4, not {text!r}.") from None
        if not 0 <= index < count:
            raise UserError(f"--shard {text}: I counts from 0 to N - 1; number arrays from 0.")
        return cls(index, count)

    def takes(self, hexadecimal: str) -> bool:
        """Whether an item with this hash (at least 8 hex digits) belongs to this part."""
        return int(hexadecimal[:8], 16) % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"
