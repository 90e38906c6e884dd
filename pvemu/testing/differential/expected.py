"""Answers that are known to differ between machines, and why: shown, but not taken for mistakes."""

import re
from typing import Final, NamedTuple


class Expectation(NamedTuple):
    """What may differ: in steps whose title matches, of what is named so."""

    title: re.Pattern[str]
    what: re.Pattern[str]
    reason: str


def _expect(title: str, what: str, reason: str) -> Expectation:
    return Expectation(re.compile(title), re.compile(what), reason)


EXPECTED: Final = (
    _expect(
        r"XENVER_(extraversion|compile_info|capabilities|changeset|commandline|build_id)",
        r".*",
        "what the build calls itself",
    ),
    _expect(
        r"XENMEM_(maximum_ram_page|maximum_reservation|machine_memory_map)", r".*", "the machine's memory"
    ),
    _expect(r"HVMOP_get_time", r"(?!result).*", "times"),
    _expect(r"XENMEM_machphys_(compat_)?mfn_list", r"list.*|page.*", "frames of the machine-to-physical map"),
    _expect(
        r"GNTTABOP_(setup_table|get_status_frames)",
        r"(list|page|request).*",
        "frames of the grant table behind the first",
    ),
    _expect(
        r"XENMEM_(increase_reservation|populate_physmap|exchange)",
        r"(list|page|request).*",
        "frames that the domain has got",
    ),
    _expect(r"GNTTABOP_swap_grant_ref", r"request .*", "the bytes behind a status, which nobody has set"),
    _expect(
        r"EVTCHNOP_status",
        r".*interdomain\.port|request \+ 0x(14|18)",
        "which ports domain 0 has given its ends",
    ),
    _expect(r"VCPUOP_get_runstate_info", r"vcpu_runstate_info.*", "times"),
)


def expected(title: str, what: str) -> str | None:
    """Why an answer may differ; None: it may not."""
    for row in EXPECTED:
        if row.title.fullmatch(title) and row.what.fullmatch(what):
            return row.reason
    return None
