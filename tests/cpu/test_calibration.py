"""Calibration: the known engine passes, and anything else is refused with a clear error, never run."""

from collections.abc import Iterator

import pytest
from bare_guest import BareGuest

from pvemu.cpu import abort_guard, binding, exits, layout
from pvemu.cpu.calibration import calibrate, examine
from pvemu.cpu.errors import EngineError
from pvemu.cpu.facts import examine_facts
from pvemu.cpu.state_window import LiveWindow


@pytest.fixture(autouse=True)
def fresh_calibration() -> Iterator[None]:
    calibrate.cache_clear()
    yield
    calibrate.cache_clear()


@pytest.mark.parametrize(
    "check", (*examine("live").checks, *examine("context").checks), ids=lambda check: check.claim
)
def test_the_installed_engine_is_the_known_one(check: object) -> None:
    assert check.holds, check.seen  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "check", (*examine_facts("live"), *examine_facts("context")), ids=lambda check: check.claim
)
def test_the_slower_facts_hold(check: object) -> None:
    assert check.holds, check.seen  # type: ignore[attr-defined]


def test_the_instruction_counter_is_found() -> None:
    assert examine().counter_offset is not None


# Fields whose wrong place must be noticed; none of those that would make the test write at random.
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("EIP", layout.EIP + 8),
        ("CR", layout.CR + 8),
        ("CC_OP", layout.CC_OP + 4),
        ("CC_SRC", layout.CC_SRC + 8),
        ("SEGMENTS", layout.SEGMENTS + 24),
        ("ERROR_CODE", layout.ERROR_CODE + 16),
        ("EXCEPTION_IS_INT", layout.EXCEPTION_IS_INT + 16),
        ("EXCEPTION_NEXT_EIP", layout.EXCEPTION_NEXT_EIP + 8),
        ("VMCB_EXIT_INFO_2", layout.VMCB_EXIT_INFO_2 + 8),
        ("INTERCEPT", layout.INTERCEPT + 8),
        ("INTERCEPT_EXCEPTIONS", layout.INTERCEPT_EXCEPTIONS + 4),
        ("HF_GUEST", 0),
    ],
)
def test_a_layout_that_is_wrong_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, wrong: int) -> None:
    monkeypatch.setattr(layout, name, wrong)
    with pytest.raises(EngineError, match=r"does not behave as known: .*unicorn==2\.1\.4"):
        calibrate()


@pytest.mark.parametrize("name", ["GP", "UD", "PF", "BP"])
def test_an_exit_number_that_is_wrong_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(exits, name, 30)
    with pytest.raises(EngineError, match="does not behave as known"):
        calibrate()


def test_no_processor_is_made_on_an_engine_that_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exits, "GP", 30)
    with pytest.raises(EngineError):
        BareGuest()


def test_a_state_that_is_not_found_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pvemu.cpu.state_window._known_path", [])
    monkeypatch.setattr("pvemu.cpu.state_window._search", lambda memory, pattern: [])
    engine = binding.Engine()
    with pytest.raises(EngineError, match="--state-window context"):
        LiveWindow(engine)
    engine.close()


def test_the_fallback_window_works_where_the_state_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pvemu.cpu.state_window._known_path", [])
    monkeypatch.setattr("pvemu.cpu.state_window._search", lambda memory, pattern: [])
    with pytest.raises(EngineError, match="--state-window context"):
        calibrate("live")
    assert calibrate("context").counter_offset is not None
    with BareGuest(window="context") as guest:
        assert not guest.cpu.engine.guarded


def test_a_function_that_the_library_does_not_import_has_no_slot() -> None:
    with pytest.raises(EngineError, match="does not import"):
        abort_guard.imported_function_slot(binding.uclib, b"no_such_function")


def test_this_computer_has_the_guard_against_the_engines_abort() -> None:
    engine = binding.Engine()
    LiveWindow(engine).release()
    assert engine.guarded
    engine.close()
