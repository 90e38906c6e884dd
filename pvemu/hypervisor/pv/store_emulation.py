"""The instructions whose stores to page tables are emulated, by mnemonic; see `store_form.Emulation`."""

from typing import Final

from pvemu.hypervisor.pv.store_arithmetic import ARITHMETIC_STORES
from pvemu.hypervisor.pv.store_form import Emulation
from pvemu.hypervisor.pv.store_moves import MOVE_STORES

STORES: Final[dict[str, Emulation]] = {**MOVE_STORES, **ARITHMETIC_STORES}
