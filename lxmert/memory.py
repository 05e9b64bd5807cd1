"""What allocators say when memory runs out, and what a user can do about it."""

from __future__ import annotations

from lxmert.errors import LxmertError

# There is no common class: CUDA's is a RuntimeError with these words, the CPU's allocator has none.
_WORDS = ("out of memory", "not enough memory", "DefaultCPUAllocator")
_LOST_LOADER = "DataLoader worker (pid"
_SHOWN = 160  # characters of an allocator's message, which goes on for a page


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator gave up, on a GPU or on the CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(words in text for words in _WORDS)


def explained(error: BaseException, what: str) -> LxmertError | None:
    """The one line of work that ended for want of memory; None where something else is wrong.

    Args:
        error: what an allocator, or the loader of batches, raised.
        what: the work, as the user calls it.
    """
    text = " ".join(str(error).split()) or "the system gave none"
    shown = f"{text[:_SHOWN]} ..." if len(text) > _SHOWN else text
    if is_out_of_memory(error):
        return LxmertError(
            f"{what}: out of memory ({shown}). Let it hold less at once (micro_batch, evaluate_batch,"
            " --workers), or use a device with more memory. What was saved is kept; the same command goes on."
        )
    if isinstance(error, RuntimeError) and _LOST_LOADER in text:
        return LxmertError(
            f"{what}: a process that loads data is gone ({shown}), as happens where memory or /dev/shm runs"
            " out. Use fewer --workers, or none. What was saved is kept; the same command goes on."
        )
    return None
