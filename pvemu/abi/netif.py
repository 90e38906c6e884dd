"""The network interface (io/netif.h): slots of the transmit and the receive ring, seen from the guest."""

from pvemu.abi.ring import sring
from pvemu.abi.structure import Field, Structure, Union

XEN_NETIF_NR_SLOTS_MIN = 18
XEN_NETIF_MAX_TX_SIZE = 0xFFFF

NETTXF_csum_blank = 1 << 0
NETTXF_data_validated = 1 << 1
NETTXF_more_data = 1 << 2
NETTXF_extra_info = 1 << 3

NETRXF_data_validated = 1 << 0
NETRXF_csum_blank = 1 << 1
NETRXF_more_data = 1 << 2
NETRXF_extra_info = 1 << 3
NETRXF_gso_prefix = 1 << 4

XEN_NETIF_EXTRA_TYPE_NONE = 0
XEN_NETIF_EXTRA_TYPE_GSO = 1
XEN_NETIF_EXTRA_TYPE_MCAST_ADD = 2
XEN_NETIF_EXTRA_TYPE_MCAST_DEL = 3
XEN_NETIF_EXTRA_TYPE_HASH = 4
XEN_NETIF_EXTRA_TYPE_MAX = 5

XEN_NETIF_EXTRA_FLAG_MORE = 1 << 0

XEN_NETIF_GSO_TYPE_NONE = 0
XEN_NETIF_GSO_TYPE_TCPV4 = 1
XEN_NETIF_GSO_TYPE_TCPV6 = 2

NETIF_RSP_NULL = 1
NETIF_RSP_OKAY = 0
NETIF_RSP_ERROR = -1
NETIF_RSP_DROPPED = -2

netif_tx_request = Structure(
    "netif_tx_request",
    Field("gref", "u32"),
    Field("offset", "u16"),
    Field("flags", "u16"),  # NETTXF_*
    Field("id", "u16"),
    Field("size", "u16"),  # of the whole packet in its first slot, of the piece in the others
)
netif_tx_response = Structure("netif_tx_response", Field("id", "u16"), Field("status", "s16"))
netif_rx_request = Structure(
    "netif_rx_request", Field("id", "u16"), Field("pad", "u16"), Field("gref", "u32")
)
netif_rx_response = Structure(
    "netif_rx_response",
    Field("id", "u16"),
    Field("offset", "u16"),
    Field("flags", "u16"),  # NETRXF_*
    Field("status", "s16"),  # bytes, or NETIF_RSP_*
)
netif_extra_info = Structure(
    "netif_extra_info",
    Field("type", "u8"),
    Field("flags", "u8"),
    Field(
        "u",
        Union(
            "u",
            Field(
                "gso",
                Structure(
                    "gso",
                    Field("size", "u16"),
                    Field("type", "u8"),
                    Field("pad", "u8"),
                    Field("features", "u16"),
                ),
            ),
            Field("mcast", Structure("mcast", Field("addr", "u8", 6))),
            Field(
                "hash",
                Structure("hash", Field("type", "u8"), Field("algorithm", "u8"), Field("value", "u8", 4)),
            ),
            Field("pad", "u16", 3),
        ),
    ),
)
netif_tx_sring = sring("netif_tx", netif_tx_request, netif_tx_response)
netif_rx_sring = sring("netif_rx", netif_rx_request, netif_rx_response)
