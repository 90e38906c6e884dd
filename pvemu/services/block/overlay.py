"""A copy-on-write image: what a guest writes is kept in memory, the image below stays as it is."""

from typing import Final

from pvemu.services.block.image import Image, ImageError

_CLUSTER: Final = 4096
#: Bytes of changed data that an overlay keeps before writes fail: a guest must not use up the host's memory.
DEFAULT_LIMIT: Final = 1 << 30


class OverlayImage:
    """An image over another, with all changes in memory; they are gone when it is closed.

    Args:
        base: only read; closed with this one.
        limit: bytes of changed data, in clusters of 4 KiB.
    """

    writable = True
    discards = False

    def __init__(self, base: Image, *, limit: int = DEFAULT_LIMIT) -> None:
        self.size = base.size
        self._base = base
        self._clusters: dict[int, bytearray] = {}
        self._room = limit // _CLUSTER

    def read(self, offset: int, size: int) -> bytes:
        """Exactly so many bytes; raises ImageError."""
        data = bytearray(self._base.read(offset, size))
        for cluster in range(offset // _CLUSTER, -(-(offset + size) // _CLUSTER)):
            changed = self._clusters.get(cluster)
            if changed is not None:
                start = max(offset, cluster * _CLUSTER)
                end = min(offset + size, cluster * _CLUSTER + len(changed))
                inside = start - cluster * _CLUSTER
                data[start - offset : end - offset] = changed[inside : inside + end - start]
        return bytes(data)

    def write(self, offset: int, data: bytes) -> None:
        """Replace bytes; raises ImageError, and changes nothing, when there is no room."""
        clusters = range(offset // _CLUSTER, -(-(offset + len(data)) // _CLUSTER))
        fresh = [cluster for cluster in clusters if cluster not in self._clusters]
        if len(self._clusters) + len(fresh) > self._room:
            raise ImageError(f"the overlay is full: it has room for {self._room * _CLUSTER >> 20} MiB")
        for cluster in fresh:
            start = cluster * _CLUSTER
            self._clusters[cluster] = bytearray(self._base.read(start, min(_CLUSTER, self.size - start)))
        for cluster in clusters:
            start = max(offset, cluster * _CLUSTER)
            end = min(offset + len(data), (cluster + 1) * _CLUSTER)
            inside = start - cluster * _CLUSTER
            self._clusters[cluster][inside : inside + end - start] = data[start - offset : end - offset]

    def flush(self) -> None:
        """Nothing to do: changes never outlive the process."""

    def discard(self, offset: int, size: int) -> None:
        """Not offered."""
        raise ImageError("an overlay can't discard")

    def close(self) -> None:
        """Forget all changes, and close the image below."""
        self._clusters.clear()
        self._base.close()
