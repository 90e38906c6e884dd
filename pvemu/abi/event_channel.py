"""The event channel operations (event_channel.h), and both ways in which pending events are stored."""

from pvemu.abi.structure import Field, Structure, Union
from pvemu.abi.word import PerWord

EVTCHNOP_bind_interdomain = 0
EVTCHNOP_bind_virq = 1
EVTCHNOP_bind_pirq = 2
EVTCHNOP_close = 3
EVTCHNOP_send = 4
EVTCHNOP_status = 5
EVTCHNOP_alloc_unbound = 6
EVTCHNOP_bind_ipi = 7
EVTCHNOP_bind_vcpu = 8
EVTCHNOP_unmask = 9
EVTCHNOP_reset = 10
EVTCHNOP_init_control = 11
EVTCHNOP_expand_array = 12
EVTCHNOP_set_priority = 13

EVTCHNSTAT_closed = 0
EVTCHNSTAT_unbound = 1
EVTCHNSTAT_interdomain = 2
EVTCHNSTAT_pirq = 3
EVTCHNSTAT_virq = 4
EVTCHNSTAT_ipi = 5

BIND_PIRQ__WILL_SHARE = 1

EVTCHN_2L_NR_CHANNELS = PerWord(1024, 4096)

# FIFO events: bits of an event word (numbers, not masks), and the priority 0 is the highest.
EVTCHN_FIFO_PRIORITY_MAX = 0
EVTCHN_FIFO_PRIORITY_DEFAULT = 7
EVTCHN_FIFO_PRIORITY_MIN = 15
EVTCHN_FIFO_MAX_QUEUES = EVTCHN_FIFO_PRIORITY_MIN + 1
EVTCHN_FIFO_PENDING = 31
EVTCHN_FIFO_MASKED = 30
EVTCHN_FIFO_LINKED = 29
EVTCHN_FIFO_BUSY = 28
EVTCHN_FIFO_LINK_BITS = 17
EVTCHN_FIFO_LINK_MASK = (1 << EVTCHN_FIFO_LINK_BITS) - 1
EVTCHN_FIFO_NR_CHANNELS = 1 << EVTCHN_FIFO_LINK_BITS

evtchn_alloc_unbound = Structure(
    "evtchn_alloc_unbound",
    Field("dom", "u16"),
    Field("remote_dom", "u16"),
    Field("port", "u32"),  # out
)
evtchn_bind_interdomain = Structure(
    "evtchn_bind_interdomain",
    Field("remote_dom", "u16"),
    Field("remote_port", "u32"),
    Field("local_port", "u32"),  # out
)
evtchn_bind_virq = Structure(
    "evtchn_bind_virq",
    Field("virq", "u32"),  # VIRQ_*
    Field("vcpu", "u32"),
    Field("port", "u32"),  # out
)
evtchn_bind_pirq = Structure(
    "evtchn_bind_pirq",
    Field("pirq", "u32"),
    Field("flags", "u32"),  # BIND_PIRQ__*
    Field("port", "u32"),  # out
)
evtchn_bind_ipi = Structure("evtchn_bind_ipi", Field("vcpu", "u32"), Field("port", "u32"))  # port is out
evtchn_close = Structure("evtchn_close", Field("port", "u32"))
evtchn_send = Structure("evtchn_send", Field("port", "u32"))
evtchn_status = Structure(
    "evtchn_status",
    Field("dom", "u16"),
    Field("port", "u32"),
    Field("status", "u32"),  # out, as all that follows: EVTCHNSTAT_*
    Field("vcpu", "u32"),
    Field(
        "u",
        Union(
            "u",
            Field("unbound", Structure("unbound", Field("dom", "u16"))),
            Field("interdomain", Structure("interdomain", Field("dom", "u16"), Field("port", "u32"))),
            Field("pirq", "u32"),
            Field("virq", "u32"),
        ),
    ),
)
evtchn_bind_vcpu = Structure("evtchn_bind_vcpu", Field("port", "u32"), Field("vcpu", "u32"))
evtchn_unmask = Structure("evtchn_unmask", Field("port", "u32"))
evtchn_reset = Structure("evtchn_reset", Field("dom", "u16"))
evtchn_init_control = Structure(
    "evtchn_init_control",
    Field("control_gfn", "u64"),
    Field("offset", "u32"),
    Field("vcpu", "u32"),
    Field("link_bits", "u8"),  # out
    Field("_pad", "u8", 7),
)
evtchn_expand_array = Structure("evtchn_expand_array", Field("array_gfn", "u64"))
evtchn_set_priority = Structure("evtchn_set_priority", Field("port", "u32"), Field("priority", "u32"))

evtchn_op = Structure(  # what event_channel_op_compat takes
    "evtchn_op",
    Field("cmd", "u32"),
    Field(
        "u",
        Union(
            "u",
            Field("alloc_unbound", evtchn_alloc_unbound),
            Field("bind_interdomain", evtchn_bind_interdomain),
            Field("bind_virq", evtchn_bind_virq),
            Field("bind_pirq", evtchn_bind_pirq),
            Field("bind_ipi", evtchn_bind_ipi),
            Field("close", evtchn_close),
            Field("send", evtchn_send),
            Field("status", evtchn_status),
            Field("bind_vcpu", evtchn_bind_vcpu),
            Field("unmask", evtchn_unmask),
        ),
    ),
)

evtchn_fifo_control_block = Structure(
    "evtchn_fifo_control_block",
    Field("ready", "u32"),
    Field("_rsvd", "u32"),
    Field("head", "u32", EVTCHN_FIFO_MAX_QUEUES),
)
