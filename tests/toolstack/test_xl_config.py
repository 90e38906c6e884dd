"""xl.cfg files: what they may say, and how a mistake in one is reported."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvemu.abi.errors import PvemuError
from pvemu.toolstack.guest_config import Action
from pvemu.toolstack.guest_kind import GuestKind, Paging
from pvemu.toolstack.xl_config import ConfigFile, looks_like_config, read_config
from tests.toolstack.conftest import Command

KERNEL = 'guest "tiny"\nsection .text\nstart: hlt\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "kernel.gk").write_text(KERNEL)
    (tmp_path / "ramdisk").write_bytes(b"a ramdisk")
    return tmp_path


def read(folder: Path, text: str) -> ConfigFile:
    return read_config(folder / "web.cfg", f'kernel = "kernel.gk"\n{text}')


def test_a_file_says_all_of_a_guest(folder: Path) -> None:
    guest = read(
        folder,
        """
        # a comment
        name = 'web'; memory = 0x20
        vcpus = 2   # another
        ramdisk = "ramdisk"
        root = "/dev/xvda"
        extra = "quiet single"
        disk = [
            'a.img,xvda,w',     # one
            'file:/b.img,xvdb,r',
        ]
        vif = [ 'mac=00:16:3e:00:00:01,bridge=lan', '' ]
        cpu_weight = 512
        cap = 50
        on_poweroff = "preserve"
        on_reboot = 'destroy'
        on_crash = "restart"
        type = "pv"
        """,
    ).guest
    assert (guest.name, guest.memory, guest.vcpus) == ("web", 32, 2)
    assert guest.command_line == "root=/dev/xvda quiet single"
    assert guest.module == b"a ramdisk"
    assert [(disk.spec.path, disk.spec.vdev, disk.spec.writable) for disk in guest.disks] == [
        (str(folder / "a.img"), "xvda", True),
        ("/b.img", "xvdb", False),
    ]
    assert [(nic.mac, nic.bridge) for nic in guest.interfaces] == [
        ("00:16:3e:00:00:01", "lan"),
        (None, "xenbr0"),
    ]
    assert (guest.weight, guest.cap) == (512, 50)
    assert (guest.on_poweroff, guest.on_reboot, guest.on_crash) == (
        Action.PRESERVE,
        Action.DESTROY,
        Action.RESTART,
    )


def test_what_a_file_leaves_out_is_as_in_xl(folder: Path) -> None:
    guest = read(folder, "").guest
    assert guest.name == "web"  # the file's
    assert (guest.on_poweroff, guest.on_reboot, guest.on_crash) == (
        Action.DESTROY,
        Action.RESTART,
        Action.DESTROY,
    )


def test_cmdline_stands_for_root_and_extra(folder: Path) -> None:
    assert read(folder, 'cmdline = "all of it"\nextra = "not this"').guest.command_line == "all of it"


def test_what_has_no_effect_is_remarked_upon(folder: Path) -> None:
    warnings = read(folder, "bootloader = 'pygrub'\nmemmory = 3").warnings
    assert [warning.rsplit("/", 1)[1] for warning in warnings] == [
        "web.cfg: bootloader has no effect here",
        "web.cfg: memmory has no effect here",
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("memory = ", r"web\.cfg:2:\d+: that is no xl.cfg line"),
        ("memory 64", r"web\.cfg:2:8: "),
        ("memory = '64'", "memory must be a number"),
        ("memory = 08", "octal"),
        ("name = 5", "name must be a string"),
        ("disk = 'a.img'", "disk must be a list"),
        ("disk = [5]", "disk must be a list of strings"),
        ("vcpus = -1", r"web\.cfg:2:9: "),
        ("vcpus = 0", "vcpus = 0 can't be"),
        ("cpu_weight = 70000", "from 1 to 65535"),
        ("cap = 101", "from 0 to 100"),
        ("type = 'arm'", "type = 'arm' can't be had here: pv or pvh or hvm"),
        ("type = 'pv'; builder = 'hvm'", "contradict each other"),
        ("hap = 'yes'", "hap must be a number"),
        ("on_crash = 'coredump'", "destroy or restart or preserve"),
        ("ramdisk = 'none'", "none can't be read"),
        ("disk = ['a.img,xvda,w', 'b.img,qcow2,xvdb,w']", "convert it to raw"),
        ('name = "unfinished', r"web\.cfg:2:8: "),
    ],
)
def test_a_mistake_is_reported_with_its_place(folder: Path, text: str, complaint: str) -> None:
    with pytest.raises(PvemuError, match=complaint):
        read(folder, text)


@pytest.mark.parametrize(
    ("text", "kind", "paging"),
    [
        ("", None, None),
        ("type = 'pv'", GuestKind.PV, None),
        ("type = 'pv'; hap = 1", GuestKind.PV, None),
        ("type = 'pvh'", GuestKind.PVH, None),
        ("type = 'pvh'; hap = 0", GuestKind.PVH, Paging.SHADOW),
        ("type = 'hvm'; hap = 1", GuestKind.HVM, Paging.NESTED),
        ("builder = 'hvm'", GuestKind.HVM, None),
        ("builder = 'linux'; type = 'pv'", GuestKind.PV, None),
        ("hap = 0", None, Paging.SHADOW),
    ],
)
def test_a_file_says_what_kind_of_guest_it_is(
    folder: Path, text: str, kind: GuestKind | None, paging: Paging | None
) -> None:
    guest = read(folder, text).guest
    assert (guest.kind, guest.paging) == (kind, paging)


def test_a_file_without_a_kernel_is_none(folder: Path) -> None:
    with pytest.raises(PvemuError, match="which kernel"):
        read_config(folder / "web.cfg", "kernel = ''")


def test_source_of_guestkit_is_not_taken_for_a_configuration() -> None:
    assert looks_like_config('name = "x"\nkernel = "y"')
    assert looks_like_config("\n# a guest\n  memory = 16\n")
    assert looks_like_config('name "x"\nkernel = "y"')
    assert not looks_like_config(KERNEL)
    assert not looks_like_config("; a kernel = a program\nkernel equ 5\n")


@settings(max_examples=50)
@given(st.text(alphabet="ab=[]'\",;#\n 019x+", max_size=60))
def test_noise_is_a_guest_or_a_complaint(text: str) -> None:
    try:
        read_config(Path("nowhere/x.cfg"), text)
    except PvemuError as error:
        assert str(error)


def test_run_takes_a_file_and_refuses_options_that_contradict_it(folder: Path, pvemu: Command) -> None:
    (folder / "web.cfg").write_text('kernel = "kernel.gk"\nmemory = 16\n')
    assert pvemu("run", folder / "web.cfg", "--max-time", "1").status == 3  # it has no handler for anything
    refused = pvemu("run", folder / "web.cfg", "--memory", "32")
    assert refused.status == 2
    assert "says itself what --memory says" in refused.err
