"""Event channels of two domains, against a model of ports and their ends."""

from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.xen import (
    DOMID_SELF,
    NR_VIRQS,
    VIRQ_DEBUG,
    VIRQ_TIMER,
    VIRQ_XENOPROF,
    VIRQ_XENPMU,
    shared_info,
)
from pvemu.hypervisor import event_channel
from pvemu.hypervisor.core import Hypervisor
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.domctl import Domctl

DOMAINS = (1, 2)
PER_VCPU = {VIRQ_TIMER, VIRQ_DEBUG, VIRQ_XENOPROF, VIRQ_XENPMU}
PENDING, MASK = (shared_info.offset(name, 4) for name in ("evtchn_pending", "evtchn_mask"))

_DOMAIN = st.sampled_from(DOMAINS)
_DOMID = st.sampled_from([*DOMAINS, DOMID_SELF, 9])
_PORT = st.integers(0, 8) | st.sampled_from([1023, 1024, 0xFFFFFFFF])
_VCPU = st.integers(0, 2)


class End(NamedTuple):
    """A bound port in the model."""

    kind: str
    remote: int = 0
    remote_port: int = 0
    virq: int = 0
    vcpu: int = 0


class EventChannels(RuleBasedStateMachine):
    @initialize()
    def boot(self) -> None:
        self.hypervisor = Hypervisor(18)
        domctl = Domctl(self.hypervisor)
        self.domains: dict[int, Domain] = {
            domid: domctl.create_domain(domid, privileged=False, pages=16, vcpus=2) for domid in DOMAINS
        }
        self.ports: dict[int, dict[int, End]] = {domid: {} for domid in DOMAINS}
        self.pending: set[tuple[int, int]] = set()

    def teardown(self) -> None:
        if hasattr(self, "hypervisor"):
            self.hypervisor.cpu.close()

    def call(self, operation: str, *arguments: object) -> int:
        try:
            return int(getattr(event_channel, operation)(*arguments))
        except HypercallError as error:
            return error.result

    def lowest(self, domid: int) -> int:
        return next(port for port in range(1, 1024) if port not in self.ports[domid])

    def is_used(self, domid: int, port: int) -> bool:
        return port in self.ports[domid]

    @rule(domid=_DOMAIN, whose=_DOMID, remote=_DOMID)
    def alloc_unbound(self, domid: int, whose: int, remote: int) -> None:
        result = self.call("alloc_unbound", self.domains[domid], whose, remote)
        if whose == 9:
            assert result == -Errno.ESRCH
        elif whose not in (domid, DOMID_SELF):
            assert result == -Errno.EPERM
        else:
            assert result == self.lowest(domid)
            self.ports[domid][result] = End("unbound", domid if remote == DOMID_SELF else remote)

    @rule(domid=_DOMAIN, remote=_DOMAIN, port=_PORT)
    def bind_interdomain(self, domid: int, remote: int, port: int) -> None:
        expected = self.lowest(domid)
        result = self.call("bind_interdomain", self.domains[domid], remote, port)
        offer = self.ports[remote].get(port)
        if offer is None or offer[:2] != ("unbound", domid):
            assert result == -Errno.EINVAL
            return
        assert result == expected
        self.ports[domid][result] = End("interdomain", remote, port)
        self.ports[remote][port] = End("interdomain", domid, result)
        self.pending.add((domid, result))

    @rule(domid=_DOMAIN, virq=st.integers(0, NR_VIRQS + 1), vcpu=_VCPU)
    def bind_virq(self, domid: int, virq: int, vcpu: int) -> None:
        result = self.call("bind_virq", self.domains[domid], virq, vcpu)
        if virq >= NR_VIRQS or (virq not in PER_VCPU and vcpu):
            assert result == -Errno.EINVAL
        elif vcpu >= 2:
            assert result == -Errno.ENOENT
        elif any(
            (end.kind, end.virq, end.vcpu) == ("virq", virq, vcpu) for end in self.ports[domid].values()
        ):
            assert result == -Errno.EEXIST
        else:
            assert result == self.lowest(domid)
            self.ports[domid][result] = End("virq", virq=virq, vcpu=vcpu)

    @rule(domid=_DOMAIN, vcpu=_VCPU)
    def bind_ipi(self, domid: int, vcpu: int) -> None:
        result = self.call("bind_ipi", self.domains[domid], vcpu)
        if vcpu >= 2:
            assert result == -Errno.ENOENT
        else:
            assert result == self.lowest(domid)
            self.ports[domid][result] = End("ipi", vcpu=vcpu)

    @rule(domid=_DOMAIN, port=_PORT)
    def close(self, domid: int, port: int) -> None:
        result = self.call("close", self.domains[domid], port)
        end = self.ports[domid].pop(port, None)
        if end is None:
            assert result == -Errno.EINVAL
            return
        assert result == 0
        self.pending.discard((domid, port))
        if end.kind == "interdomain" and (end.remote, end.remote_port) != (domid, port):
            self.ports[end.remote][end.remote_port] = End("unbound", domid)

    @rule(domid=_DOMAIN, port=_PORT)
    def send(self, domid: int, port: int) -> None:
        result = self.call("send", self.domains[domid], port)
        end = self.ports[domid].get(port)
        if end is None or end.kind == "virq":
            assert result == -Errno.EINVAL
            return
        assert result == 0
        if end.kind == "interdomain":
            self.pending.add((end.remote, end.remote_port))
        elif end.kind == "ipi":
            self.pending.add((domid, port))

    @rule(domid=_DOMAIN, port=_PORT)
    def unmask(self, domid: int, port: int) -> None:
        result = self.call("unmask", self.domains[domid], port)
        # Of a free port real Xen's answer depends on how many it has made room for.
        if self.is_used(domid, port):
            assert result == 0
        elif port >= 1024:
            assert result == -Errno.EINVAL

    @rule(domid=_DOMAIN, virq=st.integers(0, NR_VIRQS - 1), vcpu=st.integers(0, 1))
    def ring_virq(self, domid: int, virq: int, vcpu: int) -> None:
        event_channel.send_virq(self.domains[domid].vcpus[vcpu], virq)
        for port, end in self.ports[domid].items():
            if (end.kind, end.virq, end.vcpu) == ("virq", virq, vcpu):
                self.pending.add((domid, port))

    @invariant()
    def ports_and_pending_bits_are_the_models(self) -> None:
        if not hasattr(self, "domains"):
            return
        names = {event_channel.State.UNBOUND: "unbound", event_channel.State.INTERDOMAIN: "interdomain"}
        names |= {event_channel.State.VIRQ: "virq", event_channel.State.IPI: "ipi"}
        for domid, domain in self.domains.items():
            found = {port: names[end.state] for port, end in enumerate(domain.channels) if end.state in names}
            assert found == {port: end.kind for port, end in self.ports[domid].items()}
            for port in range(16):
                word = self.hypervisor.ram.u32[(domain.shared_info + PENDING >> 2) + (port >> 5)]
                assert bool(word >> (port & 31) & 1) == ((domid, port) in self.pending)

    @invariant()
    def a_pending_port_has_its_vcpu_told(self) -> None:
        for domid, port in self.pending if hasattr(self, "pending") else ():
            domain = self.domains[domid]
            vcpu = domain.vcpus[domain.channels[port].vcpu]
            assert self.hypervisor.ram.u8[vcpu.info] == 1


TestEventChannels = EventChannels.TestCase
TestEventChannels.settings = settings(max_examples=25, stateful_step_count=40)
