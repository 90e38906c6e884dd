"""A packet on its way through the switch, with what its sender has left to do for hardware."""

from dataclasses import dataclass
from typing import Final

from pvemu.abi.netif import XEN_NETIF_GSO_TYPE_NONE, XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6

ETHERNET_HEADER: Final = 14


@dataclass(frozen=True, slots=True)
class Frame:
    """An Ethernet frame, without its check sequence.

    Attributes:
        data: the bytes, at least 14.
        checksum_blank: the TCP or UDP checksum holds only the pseudo-header's sum.
        validated: the sender vouches for the checksum.
        gso_type: XEN_NETIF_GSO_TYPE_*; other than NONE the frame is a TCP packet to be cut into several.
        gso_size: bytes of payload of each of these.
    """

    data: bytes
    checksum_blank: bool = False
    validated: bool = False
    gso_type: int = XEN_NETIF_GSO_TYPE_NONE
    gso_size: int = 0

    @property
    def destination(self) -> bytes:
        """The six bytes of the address that it goes to."""
        return self.data[:6]

    @property
    def source(self) -> bytes:
        """The six bytes of the address that it comes from."""
        return self.data[6:12]


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a receiver does by itself: blank checksums, large TCP packets, several pages each."""

    checksum4: bool = False
    checksum6: bool = False
    gso_types: frozenset[int] = frozenset()
    scatter_gather: bool = False

    def takes_checksum(self, version: int) -> bool:
        """Whether it takes a packet of this IP version with a blank checksum."""
        return self.checksum4 if version == 4 else self.checksum6


#: A wire: nothing may be left to do.
PLAIN: Final = Abilities(scatter_gather=True)
IP_VERSION_OF_GSO: Final = {XEN_NETIF_GSO_TYPE_TCPV4: 4, XEN_NETIF_GSO_TYPE_TCPV6: 6}
