"""Event channels of three domains, as bits and in queues, against a model of ports and their ends."""

from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.event_channel import (
    EVTCHN_FIFO_LINK_MASK,
    EVTCHN_FIFO_LINKED,
    EVTCHN_FIFO_MAX_QUEUES,
    EVTCHN_FIFO_PENDING,
)
from pvemu.abi.xen import (
    DOMID_SELF,
    NR_VIRQS,
    VIRQ_CONSOLE,
    VIRQ_DEBUG,
    VIRQ_TIMER,
    VIRQ_XENOPROF,
    VIRQ_XENPMU,
    shared_info,
    vcpu_info,
)
from pvemu.hypervisor import event_channel
from pvemu.hypervisor.audit import Auditor
from pvemu.hypervisor.core import Hypervisor
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.domctl import Domctl
from pvemu.hypervisor.event_fifo import expand_array, init_control
from pvemu.hypervisor.event_ports import State
from pvemu.hypervisor.virq import send_virq

DOMAINS = (1, 2, 3)
VCPUS = 2
ROOM = 64
PER_VCPU = {VIRQ_TIMER, VIRQ_DEBUG, VIRQ_XENOPROF, VIRQ_XENPMU}
PENDING, BITS = shared_info.offset("evtchn_pending", 4), shared_info.field_size("evtchn_pending", 4)
SELECTOR = vcpu_info.offset("evtchn_pending_sel", 4)
LINKED, PENDING_WORD = 1 << EVTCHN_FIFO_LINKED, 1 << EVTCHN_FIFO_PENDING

_DOMAIN = st.sampled_from(DOMAINS)
# Mostly what there is: a port is bound sooner or later, and much has to happen to it then.
_DOMID = st.sampled_from([DOMID_SELF] * 6 + [*DOMAINS, 9])
_PORT = st.integers(0, 15)
ODD_PORTS = (0, 5, 8, ROOM - 1, ROOM, 1023, 1024, 0xFFFFFFFF)
_SELDOM = st.integers(0, 5).map(lambda number: number == 0)
_VIRQ = st.sampled_from([*sorted(PER_VCPU), VIRQ_CONSOLE, VIRQ_CONSOLE, NR_VIRQS - 1, NR_VIRQS, NR_VIRQS + 1])
_VCPU = st.sampled_from([*range(VCPUS)] * 4 + [VCPUS])


class End(NamedTuple):
    """A bound port in the model."""

    kind: str
    remote: int = 0
    remote_port: int = 0
    virq: int = 0
    vcpu: int = 0


class EventChannels(RuleBasedStateMachine):
    @initialize(queues=st.sets(_DOMAIN))
    def boot(self, queues: set[int]) -> None:
        self.hypervisor = Hypervisor(18)
        self.auditor = Auditor(self.hypervisor)
        self.domctl = Domctl(self.hypervisor)
        self.domains: dict[int, Domain] = {}
        self.frames: dict[int, list[int]] = {}
        self.ports: dict[int, dict[int, End]] = {}
        self.pending: set[tuple[int, int]] = set()
        self.linked: set[tuple[int, int]] = set()
        self.queued: set[int] = set()
        for domid in DOMAINS:
            self.give_birth(domid)
            if domid in queues:
                self.use_queues(domid)

    def give_birth(self, domid: int) -> None:
        domain = self.domctl.create_domain(domid, privileged=False, pages=16, vcpus=VCPUS)
        self.domains[domid], self.ports[domid] = domain, {}
        self.frames[domid] = self.domctl.populate_physmap(domain, VCPUS + 1)

    def teardown(self) -> None:
        if hasattr(self, "hypervisor"):
            self.auditor.audit()
            self.hypervisor.cpu.close()

    def call(self, operation: str, *arguments: object, **options: object) -> int:
        try:
            return int(getattr(event_channel, operation)(*arguments, **options))
        except HypercallError as error:
            return error.result

    def pick(self, domid: int, choice: int) -> int:
        """Mostly a port that is bound, sometimes one that is not."""
        bound = sorted(self.ports[domid])
        return bound[choice % len(bound)] if bound and choice < 13 else ODD_PORTS[choice % len(ODD_PORTS)]

    def lowest(self, domid: int) -> int:
        taken = self.ports[domid]
        return next(port for port in range(1, 1024) if port not in taken and (domid, port) not in self.linked)

    def ring(self, domid: int, port: int) -> None:
        self.pending.add((domid, port))
        if domid in self.queued:
            self.linked.add((domid, port))

    # --- binding ---------------------------------------------------------------------------------

    @rule(domid=_DOMAIN, whose=_DOMID, remote=_DOMID)
    def alloc_unbound(self, domid: int, whose: int, remote: int) -> None:
        expected = self.lowest(domid)
        result = self.call("alloc_unbound", self.domains[domid], whose, remote)
        if whose == 9:
            assert result == -Errno.ESRCH
        elif whose not in (domid, DOMID_SELF):
            assert result == -Errno.EPERM
        else:
            assert result == expected
            self.ports[domid][result] = End("unbound", domid if remote == DOMID_SELF else remote)

    @rule(domid=_DOMAIN, remote=_DOMAIN)
    def connect(self, domid: int, remote: int) -> None:
        port = self.lowest(remote)
        self.alloc_unbound(remote, DOMID_SELF, domid)
        self.bind_interdomain(domid, remote, sorted(self.ports[remote]).index(port))

    @rule(domid=_DOMAIN, remote=_DOMAIN, port=_PORT)
    def bind_interdomain(self, domid: int, remote: int, port: int) -> None:
        port = self.pick(remote, port)
        expected = self.lowest(domid)
        result = self.call("bind_interdomain", self.domains[domid], remote, port)
        offer = self.ports[remote].get(port)
        if offer is None or offer[:2] != ("unbound", domid):
            assert result == -Errno.EINVAL
            return
        assert result == expected
        self.ports[domid][result] = End("interdomain", remote, port)
        self.ports[remote][port] = End("interdomain", domid, result, vcpu=offer.vcpu)
        self.ring(domid, result)

    @rule(domid=_DOMAIN, virq=_VIRQ, vcpu=_VCPU)
    def bind_virq(self, domid: int, virq: int, vcpu: int) -> None:
        expected = self.lowest(domid)
        result = self.call("bind_virq", self.domains[domid], virq, vcpu)
        if virq >= NR_VIRQS or (virq not in PER_VCPU and vcpu):
            assert result == -Errno.EINVAL
        elif vcpu >= VCPUS:
            assert result == -Errno.ENOENT
        elif any(
            end.kind == "virq" and end.virq == virq and (virq not in PER_VCPU or end.vcpu == vcpu)
            for end in self.ports[domid].values()
        ):
            assert result == -Errno.EEXIST
        else:
            assert result == expected
            self.ports[domid][result] = End("virq", virq=virq, vcpu=vcpu)

    @rule(domid=_DOMAIN, vcpu=_VCPU)
    def bind_ipi(self, domid: int, vcpu: int) -> None:
        expected = self.lowest(domid)
        result = self.call("bind_ipi", self.domains[domid], vcpu)
        if vcpu >= VCPUS:
            assert result == -Errno.ENOENT
        else:
            assert result == expected
            self.ports[domid][result] = End("ipi", vcpu=vcpu)

    @rule(domid=_DOMAIN, port=_PORT, vcpu=_VCPU)
    def bind_vcpu(self, domid: int, port: int, vcpu: int) -> None:
        port = self.pick(domid, port)
        result = self.call("bind_vcpu", self.domains[domid], port, vcpu)
        end = self.ports[domid].get(port)
        if vcpu >= VCPUS:
            assert result == -Errno.ENOENT
        elif end is None or end.kind == "ipi" or (end.kind == "virq" and end.virq in PER_VCPU):
            assert result == -Errno.EINVAL
        else:
            assert result == 0
            self.ports[domid][port] = end._replace(vcpu=vcpu)

    # --- freeing ---------------------------------------------------------------------------------

    def free(self, domid: int, port: int) -> None:
        end = self.ports[domid].pop(port)
        self.pending.discard((domid, port))
        if end.kind == "interdomain":
            other = self.ports[end.remote][end.remote_port]
            self.ports[end.remote][end.remote_port] = End("unbound", domid, vcpu=other.vcpu)

    @rule(domid=_DOMAIN, port=_PORT)
    def close(self, domid: int, port: int) -> None:
        port = self.pick(domid, port)
        result = self.call("close", self.domains[domid], port)
        if port not in self.ports[domid]:
            assert result == -Errno.EINVAL
            return
        assert result == 0
        self.free(domid, port)

    @rule(domid=_DOMAIN, whose=_DOMID, sure=_SELDOM)
    def reset(self, domid: int, whose: int, sure: bool) -> None:
        if not sure:
            return
        # Nobody's time is short here.
        self.hypervisor.clock.deadline = 1 << 62
        result = self.call("reset", self.domains[domid], whose, resuming=False)
        if whose == 9:
            assert result == -Errno.ESRCH
        elif whose not in (domid, DOMID_SELF):
            assert result == -Errno.EPERM
        else:
            assert result
            for port in sorted(self.ports[domid]):
                self.free(domid, port)
            self.forget_queues(domid)

    def forget_queues(self, domid: int) -> None:
        self.queued.discard(domid)
        self.linked = {(whose, port) for whose, port in self.linked if whose != domid}

    @rule(domid=_DOMAIN, sure=_SELDOM)
    def die(self, domid: int, sure: bool) -> None:
        if not sure:
            return
        died = self.domains[domid]
        self.domctl.destroy(died)
        assert domid not in self.hypervisor.domains
        for port in sorted(self.ports[domid]):
            self.free(domid, port)
        self.forget_queues(domid)
        self.give_birth(domid)

    # --- ringing ---------------------------------------------------------------------------------

    @rule(domid=_DOMAIN)
    def ring_all(self, domid: int) -> None:
        for choice in range(len(self.ports[domid])):
            self.send(domid, choice)

    @rule(domid=_DOMAIN, port=_PORT)
    def send(self, domid: int, port: int) -> None:
        port = self.pick(domid, port)
        result = self.call("send", self.domains[domid], port)
        end = self.ports[domid].get(port)
        if end is None or end.kind == "virq":
            assert result == -Errno.EINVAL
            return
        assert result == 0
        if end.kind == "interdomain":
            self.ring(end.remote, end.remote_port)
        elif end.kind == "ipi":
            self.ring(domid, port)

    @rule(domid=_DOMAIN, port=_PORT)
    def unmask(self, domid: int, port: int) -> None:
        port = self.pick(domid, port)
        result = self.call("unmask", self.domains[domid], port)
        assert result == (0 if port < ROOM else -Errno.EINVAL)
        # One that was taken out of its queue while it was pending goes back into it.
        if port in self.ports[domid] and (domid, port) in self.pending and domid in self.queued:
            self.linked.add((domid, port))

    @rule(domid=_DOMAIN, virq=_VIRQ, vcpu=st.integers(0, VCPUS - 1))
    def ring_virq(self, domid: int, virq: int, vcpu: int) -> None:
        send_virq(self.domains[domid].vcpus[vcpu], virq)
        for port, end in self.ports[domid].items():
            if (end.kind, end.virq) == ("virq", virq) and (
                vcpu == end.vcpu if virq in PER_VCPU else not vcpu
            ):
                self.ring(domid, port)

    # --- queues ----------------------------------------------------------------------------------

    @rule(domid=_DOMAIN)
    def use_queues(self, domid: int) -> None:
        domain, (*blocks, array) = self.domains[domid], self.frames[domid]
        if domid in self.queued:
            return
        for mfn in (*blocks, array):
            self.hypervisor.ram.clear(mfn)
        for vcpu, mfn in enumerate(blocks):
            init_control(domain, vcpu, mfn, 0)
        expand_array(domain, array)
        self.queued.add(domid)
        # The bits stay as they are, and would count again after a reset: a guest that cares clears them.
        start = domain.shared_info + PENDING
        self.hypervisor.ram.u8[start : start + BITS] = bytes(BITS)
        for vcpu in domain.vcpus:
            self.hypervisor.ram.u32[vcpu.info + SELECTOR >> 2] = 0
        # What was pending as a bit is so in its queue; what was so at an earlier change, is rung once more.
        again = {(domid, port) for port, bound in enumerate(domain.channels) if bound.raised_early}
        assert again >= {(whose, port) for whose, port in self.pending if whose == domid}
        self.linked |= again
        self.pending |= {(whose, port) for whose, port in again if port in self.ports[domid]}

    @rule(domid=_DOMAIN, port=_PORT, priority=st.sampled_from([3, 7, 15, 16]))
    def set_priority(self, domid: int, port: int, priority: int) -> None:
        port = self.pick(domid, port)
        result = self.call("set_priority", self.domains[domid], port, priority)
        if port >= ROOM:
            assert result == -Errno.EINVAL
        elif domid not in self.queued:
            assert result == -Errno.ENOSYS
        elif port not in self.ports[domid]:
            assert result == -Errno.EACCES
        else:
            assert result == (0 if priority < EVTCHN_FIFO_MAX_QUEUES else -Errno.EINVAL)

    @precondition(lambda self: self.queued)
    @rule(domid=_DOMAIN)
    def consume(self, domid: int) -> None:
        """Do as a guest does: take all out of the queues, and handle what is pending."""
        if domid not in self.queued:
            return
        *blocks, array = self.frames[domid]
        u32 = self.hypervisor.ram.u32
        found = set()
        for vcpu, block in enumerate(blocks):
            for queue in range(EVTCHN_FIFO_MAX_QUEUES):
                port = u32[(block << 10) + 2 + queue]
                while port:
                    at = (array << 10) + port
                    word = u32[at]
                    assert word & LINKED and port not in found
                    found.add(port)
                    if word & PENDING_WORD and port in self.ports[domid]:
                        self.pending.discard((domid, port))
                    u32[at] = word & ~(LINKED | PENDING_WORD | EVTCHN_FIFO_LINK_MASK)
                    port = word & EVTCHN_FIFO_LINK_MASK
                u32[(block << 10) + 2 + queue] = 0
            u32[block << 10] = 0
            self.hypervisor.ram.u8[self.domains[domid].vcpus[vcpu].info] = 0
        assert found == {port for whose, port in self.linked if whose == domid}
        self.linked = {(whose, port) for whose, port in self.linked if whose != domid}

    # --- laws ------------------------------------------------------------------------------------

    @invariant()
    def ports_and_pending_events_are_the_models(self) -> None:
        names = {State.UNBOUND: "unbound", State.INTERDOMAIN: "interdomain"}
        names |= {State.VIRQ: "virq", State.IPI: "ipi"}
        for domid, domain in getattr(self, "domains", {}).items():
            found = {
                port: (names[bound.state], bound.vcpu)
                for port, bound in enumerate(domain.channels)
                if bound.state in names
            }
            assert found == {port: (end.kind, end.vcpu) for port, end in self.ports[domid].items()}
            for port in self.ports[domid]:
                assert domain.events.is_pending(port) == ((domid, port) in self.pending)

    @invariant()
    def a_pending_port_has_its_vcpu_told(self) -> None:
        for domid, port in self.linked if hasattr(self, "linked") else ():
            assert any(self.hypervisor.ram.u8[vcpu.info] for vcpu in self.domains[domid].vcpus), port
        for domid, port in self.pending if hasattr(self, "pending") else ():
            if domid not in self.queued:
                assert any(self.hypervisor.ram.u8[vcpu.info] for vcpu in self.domains[domid].vcpus), port

    @invariant()
    def both_ends_of_a_channel_name_each_other(self) -> None:
        for domid, domain in getattr(self, "domains", {}).items():
            for port, bound in enumerate(domain.channels):
                if bound.state is State.INTERDOMAIN:
                    other = self.domains[bound.remote].channels[bound.remote_port]
                    assert (other.state, other.remote, other.remote_port) == (State.INTERDOMAIN, domid, port)


TestEventChannels = EventChannels.TestCase
TestEventChannels.settings = settings(max_examples=60, stateful_step_count=80)
