"""The small families of hypercalls under any arguments: an answer, never a traceback, and exact counts."""

from booted import Booted
from hypothesis import given, settings
from hypothesis import strategies as st

from pvemu.abi import domctl, platform, sysctl
from pvemu.abi.hypercalls import BY_NAME
from pvemu.abi.xen import DOMID_SELF
from pvemu.hypervisor.audit import Auditor
from pvemu.hypervisor.continuation import Continuation
from pvemu.hypervisor.hypercall import PackedWords

WAITS = """
guest "waits"
section .text
start:  jmp start
section .data, align=4096
page:   reserve 4096, 0
other:  reserve 4096, 0
"""
#: Name -> commands in a register, or the version that begins the structure with a command.
BY_REGISTER = {
    "event_channel_op": 15, "sched_op": 9, "vcpu_op": 15, "physdev_op": 33, "hvm_op": 26, "nmi_op": 3,
    "xenoprof_op": 18, "xenpmu_op": 3, "kexec_op": 3, "callback_op": 3,
}  # fmt: skip
BY_STRUCTURE = {
    "domctl": (domctl.XEN_DOMCTL_INTERFACE_VERSION, 90),
    "sysctl": (sysctl.XEN_SYSCTL_INTERFACE_VERSION, 30),
    "platform_op": (platform.XENPF_INTERFACE_VERSION, 64),
    "event_channel_op_compat": (0, 12),
    "physdev_op_compat": (0, 33),
}
_WORD = st.sampled_from([0, 1, 2, 3, 5, 6, 63, 64, 256, 4096, DOMID_SELF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
_FRAME = st.integers(0, 300)


class Request:
    """One hypercall: its name, its command, and the words it points to."""

    def __init__(self, name: str, command: int, words: list[int], pointer: int, vcpu_id: int) -> None:
        self.name, self.command, self.words = name, command, words
        self.pointer, self.vcpu_id = pointer, vcpu_id

    def __repr__(self) -> str:
        return f"{self.name}({self.command}, {[hex(word) for word in self.words]})"


def requests(names: list[str]) -> st.SearchStrategy[Request]:
    return st.builds(
        Request,
        st.sampled_from(names),
        st.integers(0, 90),
        st.lists(_WORD | _FRAME | st.just(-1), min_size=16, max_size=16),
        st.sampled_from([0, 0, 0, 0, 0, 4090, 8190]),
        st.integers(0, 3),
    )


@settings(max_examples=40)
@given(st.booleans(), st.lists(requests([*BY_REGISTER, *BY_STRUCTURE]), max_size=40))
def test_any_request_gets_an_answer_and_leaves_the_counts_exact(
    privileged: bool, wanted: list[Request]
) -> None:
    with Booted(32) as machine:
        domain = machine.boot(0 if privileged else 1, WAITS, vcpus=2, memory=4)
        other = machine.boot(2, WAITS, memory=4)
        machine.run(1)
        hypervisor, vcpu = machine.hypervisor, domain.vcpus[0]
        auditor = Auditor(hypervisor)
        page = machine.symbols[domain.domid]["page"]
        for request in wanted:
            if domain.has_shut_down:
                break
            hypervisor.switch_to(vcpu)
            hypervisor.clock.deadline = 1 << 62
            words = list(request.words)
            if request.name in BY_STRUCTURE:
                version, commands = BY_STRUCTURE[request.name]
                words[0] = request.command % commands
                words[1] = version or words[1]
                arguments = [page + request.pointer]
            else:
                arguments = [request.command % BY_REGISTER[request.name], page + request.pointer]
                if request.name == "vcpu_op":
                    arguments = [arguments[0], request.vcpu_id, arguments[1]]
            # A word of -1 stands for the address of the guest's other page.
            words = [page + 4096 if word == -1 else word for word in words]
            domain.memory.copy_to_guest(
                page + min(request.pointer, 4000), b"".join(word.to_bytes(4, "little") for word in words)
            )
            number = BY_NAME[request.name].number
            try:
                result = hypervisor.call(vcpu, number, PackedWords([*arguments, 0, 0, 0, 0]))
            except Continuation:
                continue
            assert -200 < result < 1 << 20, request
        auditor.audit()
        for victim in (other, domain):
            if victim.domid in hypervisor.domains:
                machine.domctl.destroy(victim)
        auditor.audit()
