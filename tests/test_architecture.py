"""The shape of the project: which layer may import which, how big a room may be, and what is public."""

import ast
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pvemu

ROOT = Path(__file__).parents[1]
PACKAGES = ("pvemu", "guestkit")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

LONGEST_MODULE = 600
LONGEST_MEDIAN = 200
FORBIDDEN_NAMES = {"utils", "helpers", "manager", "common"}

# What each layer may import besides itself and pvemu's own top. A layer that is not here may not exist.
LAYERS = {
    "pvemu.abi": set(),
    "pvemu.cpu": {"pvemu.abi"},
    "pvemu.memory": {"pvemu.abi", "pvemu.cpu"},
    "pvemu.hypervisor": {"pvemu.abi", "pvemu.cpu", "pvemu.memory"},
    "pvemu.services": {"pvemu.abi"},
    "pvemu.toolstack": {
        "pvemu.abi",
        "pvemu.cpu",
        "pvemu.memory",
        "pvemu.hypervisor",
        "pvemu.services",
        "guestkit",
    },
    "pvemu.testing": {
        "pvemu.abi",
        "pvemu.cpu",
        "pvemu.memory",
        "pvemu.hypervisor",
        "pvemu.services",
        "pvemu.toolstack",
        "guestkit",
    },
    "guestkit": {"pvemu.abi"},
}
FREE = {"pvemu", "pvemu.__version__"}
# The top of pvemu only names what is public, and runs the command.
TOPS = {"pvemu": {"pvemu.abi", "pvemu.toolstack"}, "pvemu.__main__": {"pvemu.toolstack"}}
ENGINES = {"unicorn", "capstone"}
HOME_OF_ENGINES = "pvemu.cpu"
# Of the ABI, the processor may use only the base of all errors.
ABI_FOR_CPU = "pvemu.abi.errors"

Import = tuple[Path, str, str]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(name: str) -> str:
    """`pvemu.cpu` for `pvemu.cpu.clock`, `guestkit` for anything in it, `pvemu` for the top itself."""
    return ".".join(name.split(".")[: 2 if name.startswith("pvemu.") else 1])


def imported_names(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it; `from a import b` counts as a.b where that is one.

    From pvemu's own top everything counts by its name: `pvemu.Machine` is no layer's.
    """
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, f"{path}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = any(
                    (ROOT / inner.replace(".", "/")).with_suffix(end).exists() for end in ("", ".py")
                )
                yield inner if is_module or node.module == "pvemu" else node.module


IMPORTS: list[Import] = [
    (path, module_name(path), imported) for path in MODULES for imported in imported_names(path)
]


def test_every_layer_imports_only_the_layers_above_it() -> None:
    allowed = LAYERS | TOPS
    wrong = [
        f"{module} imports {imported}"
        for _, module, imported in IMPORTS
        if imported.split(".")[0] in PACKAGES and imported not in FREE
        if layer(imported) not in {layer(module), *allowed.get(module, allowed.get(layer(module), set()))}
    ]
    assert wrong == []


def test_every_package_is_a_known_layer() -> None:
    packages = {layer(module_name(path)) for path in MODULES} - set(TOPS)
    assert packages == set(LAYERS)


def test_the_processor_knows_only_the_errors_of_the_abi() -> None:
    wrong = [
        f"{module} imports {imported}"
        for _, module, imported in IMPORTS
        if layer(module) == "pvemu.cpu" and layer(imported) == "pvemu.abi" and imported != ABI_FOR_CPU
    ]
    assert wrong == []


def test_only_the_processor_imports_the_engine_and_the_decoder() -> None:
    users = {layer(module) for _, module, imported in IMPORTS if imported.split(".")[0] in ENGINES}
    assert users <= {HOME_OF_ENGINES}


def test_only_toolstack_and_the_testing_kit_import_the_assembler() -> None:
    users = {layer(module) for _, module, imported in IMPORTS if layer(imported) == "guestkit"}
    assert users <= {"guestkit", "pvemu.toolstack", "pvemu.testing"}


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_begins_with_a_sentence_that_says_what_lives_there(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_bytes()))
    assert docstring, "no docstring"
    assert docstring.split("\n\n")[0].endswith("."), "the first paragraph is no sentence"


def test_no_module_is_longer_than_a_person_reads_at_once() -> None:
    lengths = {module_name(path): len(path.read_bytes().splitlines()) for path in MODULES}
    assert {name: length for name, length in lengths.items() if length > LONGEST_MODULE} == {}
    for package in LAYERS:
        inside = [length for name, length in lengths.items() if layer(name) == package]
        assert statistics.median(inside) < LONGEST_MEDIAN, package


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [module_name(path) for path in MODULES if path.stem in FORBIDDEN_NAMES] == []


def test_the_public_surface_is_four_names() -> None:
    assert set(pvemu.__all__) == {"Machine", "Outcome", "Result", "PvemuError", "__version__"}
    for name in pvemu.__all__:
        assert getattr(pvemu, name) is not None
        assert name in dir(pvemu)
    with pytest.raises(AttributeError, match="nothing_like_this"):
        _ = pvemu.nothing_like_this


@pytest.mark.parametrize("package", ["pvemu.abi", "guestkit"])
def test_words_and_assembler_are_imported_without_an_engine(package: str) -> None:
    heavy = ENGINES | {"pvemu.cpu", "pvemu.toolstack"}
    program = f"import sys, {package}; print(sorted({heavy!r} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout.strip() == "[]"
