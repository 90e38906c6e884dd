"""A guest without any hypervisor: the engine's processor, memory, and what stands for the PC around them.

The engine can't deliver exceptions by itself, so a few lines of Python stand for the processor there; and a
port is a Python function, as a device's would be in any emulator. All else runs as the engine translates it.
"""

import struct
from collections.abc import Callable
from functools import cache
from typing import Final

from guestkit import Image
from pvemu.cpu import exits, flags, layout
from pvemu.cpu.clock import CountClock
from pvemu.cpu.mode import CR0_ET, CR0_PE, derive_engine_flags
from pvemu.cpu.processor import ClockKind, Processor
from pvemu.cpu.segments import Descriptor
from pvemu.memory.ram import Ram
from pvemu.services.block.disk import DiskSpec, open_image
from pvemu.services.device_model import ata_channel
from pvemu.services.device_model.ata_channel import AtaChannel

_FLAT_CODE: Final = 0x00CF9B000000FFFF
_FLAT_DATA: Final = 0x00CF93000000FFFF
_CODE_SELECTOR, _DATA_SEGMENTS = 0, (layout.ES, layout.SS, layout.DS, layout.FS, layout.GS)
_VECTORS: Final = 256
#: ACPI's power register, as the guest library has it: a write of S5 ends the guest.
_POWER_REGISTER: Final = 0xB004
#: Ports without a device read as ones; the serial port is always ready.
_SERIAL_STATUS: Final = 0x3FD
_SERIAL_READY: Final = 0x60
_DISK_PORTS: Final = frozenset(
    {
        *range(ata_channel.PRIMARY.first, ata_channel.PRIMARY.first + ata_channel.PORTS),
        ata_channel.PRIMARY.control,
    }
)
_CR2: Final = layout.CR // 8 + 2
_EFLAGS_OF_GATE: Final = flags.IF | flags.TF | flags.RF


@cache
def _cached(descriptor: int, selector: int) -> bytes:
    return Descriptor.from_int(descriptor).cached(selector)


class BareMachine:
    """One kernel in ring 0 of one processor, every address at itself until the kernel turns paging on.

    Args:
        image: a guest for HVM, linked at its physical addresses.
        memory: in MiB.
        clock: which clock counts.
        disk: behind the ports of the primary ATA channel.
    """

    def __init__(
        self, image: Image, *, memory: int, clock: ClockKind = "auto", disk: DiskSpec | None = None
    ) -> None:
        self._ram = Ram(memory << 20)
        self.cpu = Processor(self._ram.host_address, self._ram.size, clock=clock)
        for segment in image.segments:
            self._ram.u8[segment.address : segment.address + len(segment.data)] = segment.data
        self._medium = None if disk is None else open_image(disk)
        self._disk = AtaChannel(ata_channel.PRIMARY, lambda high: None, (self._medium, None), ("0", ""))
        self.cpu.port_in, self.cpu.port_out = self._port_in, self._port_out
        self.cpu.use_exits(
            [self._delivery(number) for number in range(_VECTORS)]
            + [self._unexpected] * (exits.EXIT_NUMBERS - _VECTORS)
        )
        self._load(image.entry)

    def close(self) -> None:
        """Give the engine back."""
        self.cpu.close()
        if self._medium is not None:
            self._medium.close()

    @property
    def instructions(self) -> int:
        """How many instructions have run; 0 unless the clock counts them."""
        clock = self.cpu.clock
        return clock.instructions if isinstance(clock, CountClock) else 0

    def on_interrupt(self, vector: int, action: Callable[[], None]) -> None:
        """Call `action` at a software interrupt, in place of the kernel's handler."""
        self.cpu.exits[vector] = action

    def run(self) -> None:
        """Run until the kernel powers off."""
        self.cpu.run()

    # --- inside ----------------------------------------------------------------------------------

    def _load(self, entry: int) -> None:
        """32-bit protected mode with flat segments, no paging, and none of AMD-V's guest mode."""
        cpu, window = self.cpu, self.cpu.window
        u32, u64 = window.u32, window.u64
        cpu.set_segment(layout.CS, Descriptor.from_int(_FLAT_CODE).cached(_CODE_SELECTOR))
        for register in _DATA_SEGMENTS:
            cpu.set_segment(register, Descriptor.from_int(_FLAT_DATA).cached(_CODE_SELECTOR))
        control = layout.CR // 8
        u64[control], u64[control + 3], u64[control + 4] = CR0_PE | CR0_ET, 0, 0
        u64[layout.EFER // 8] = 0
        u64[layout.INTERCEPT // 8] = u32[layout.INTERCEPT_EXCEPTIONS // 4] = 0
        u32[layout.HFLAGS // 4] &= ~(layout.HF_GUEST | layout.HF_SVME)
        derive_engine_flags(window)
        flags.write_eflags(window, flags.FIXED)
        u64[layout.EIP // 8] = entry
        cpu.flush_tlb()

    def _delivery(self, vector: int) -> Callable[[], None]:
        """What the processor does at an exception or software interrupt, through an interrupt gate."""
        ram, window, cpu = self._ram.u8, self.cpu.window, self.cpu
        u32, u64 = window.u32, window.u64
        with_error_code = vector in exits.WITH_ERROR_CODE
        idt = (layout.SEGMENTS + layout.IDTR * layout.SEGMENT_SIZE + layout.BASE) // 8
        gdt = (layout.SEGMENTS + layout.GDTR * layout.SEGMENT_SIZE + layout.BASE) // 8
        task = (layout.SEGMENTS + layout.TR * layout.SEGMENT_SIZE + layout.BASE) // 8
        code = (layout.SEGMENTS + layout.CS * layout.SEGMENT_SIZE) // 4
        stack = (layout.SEGMENTS + layout.SS * layout.SEGMENT_SIZE) // 4
        u16_at, u32_at = struct.Struct("<H").unpack_from, struct.Struct("<I").unpack_from

        def cached(selector: int) -> bytes:
            return _cached(struct.unpack_from("<Q", ram, u64[gdt] + (selector & ~7))[0], selector)

        def deliver() -> None:
            u32[layout.OLD_EXCEPTION // 4] = 0xFFFFFFFF
            low, selector = struct.unpack_from("<HH", ram, u64[idt] + vector * 8)
            (high,) = u16_at(ram, u64[idt] + vector * 8 + 6)
            eflags = flags.read_eflags(window)
            frame = [u32[layout.EIP // 4], u32[code], eflags]
            if with_error_code:
                frame.insert(0, u32[layout.ERROR_CODE // 4])
            esp = u32[2 * layout.RSP]
            if u32[layout.HFLAGS // 4] & layout.HF_CPL:
                frame += [esp, u32[stack]]
                (esp,) = u32_at(ram, u64[task] + 4)
                cpu.set_ring(cached(selector), cached(u16_at(ram, u64[task] + 8)[0]))
            esp -= 4 * len(frame)
            struct.pack_into(f"<{len(frame)}I", ram, esp, *frame)
            u64[layout.RSP], u64[layout.EIP // 8] = esp, low | high << 16
            flags.write_eflags(window, eflags & ~_EFLAGS_OF_GATE)

        return deliver

    def _unexpected(self) -> None:
        raise AssertionError("the bare processor has an exit")

    def _port_in(self, port: int, size: int) -> int:
        if port in _DISK_PORTS:
            return self._disk.read(port, size)
        return _SERIAL_READY if port == _SERIAL_STATUS else (1 << 8 * size) - 1

    def _port_out(self, port: int, size: int, value: int) -> bool:
        if port in _DISK_PORTS:
            self._disk.write(port, size, value)
        elif port == _POWER_REGISTER:
            self.cpu.stop()
        return True
