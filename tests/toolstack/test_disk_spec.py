"""Disks and interfaces as people describe them: what each word means, and how a wrong one is answered."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvemu.abi.errors import PvemuError
from pvemu.services.block.disk import DiskSpec
from pvemu.services.net.nic import NicSpec
from pvemu.toolstack.disk_spec import read_disk
from pvemu.toolstack.interface_spec import read_interface


@pytest.mark.parametrize(
    ("text", "path", "vdev", "writable"),
    [
        ("disk.img", "disk.img", "xvda", True),
        ("disk.img,xvdb", "disk.img", "xvdb", True),
        ("disk.img,xvdb,r", "disk.img", "xvdb", False),
        ("/dev/vg/guest,raw,hda,ro", "/dev/vg/guest", "hda", False),
        ("/dev/vg/guest,,hda,rw", "/dev/vg/guest", "hda", True),
        ("file:/images/a.img,sda1,w", "/images/a.img", "sda1", True),
        ("phy:/dev/sdb,xvdc,r", "/dev/sdb", "xvdc", False),
        ("format=raw, vdev=xvdd, access=rw, target=/a,b.img", "/a,b.img", "xvdd", True),
        ("vdev=xvdd,/a.img", "/a.img", "xvdd", True),
    ],
)
def test_a_disk_is_described_as_in_xl_cfg(text: str, path: str, vdev: str, writable: bool) -> None:
    if text.startswith("vdev="):
        with pytest.raises(PvemuError):  # only the first word without a key is a file
            read_disk(text)
        return
    assert read_disk(text).spec == DiskSpec(path, vdev, writable=writable)


def test_disks_without_a_name_get_the_first_that_is_free() -> None:
    assert read_disk("a.img", frozenset({"xvda", "xvdb"})).spec.vdev == "xvdc"


def test_a_disk_for_which_no_name_is_left_must_be_given_one() -> None:
    taken = frozenset(f"xvd{letter}" for letter in string.ascii_lowercase)
    with pytest.raises(PvemuError, match="say what it is called"):
        read_disk("a.img", taken)
    assert read_disk("a.img,xvdaa", taken).spec.vdev == "xvdaa"


def test_a_cd_is_never_writable() -> None:
    spec = read_disk("a.iso,,hdc,cdrom,w").spec
    assert spec.cdrom and not spec.writable


def test_a_disk_may_keep_its_changes_in_memory() -> None:
    assert read_disk("a.img,xvda,w,overlay").spec.overlay


def test_a_disk_may_be_another_guests() -> None:
    request = read_disk("vdev=xvda,backend=storage")
    assert request.backend == "storage" and not request.spec.path


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "names no file"),
        ("a.img,xvdq9999", "no virtual disk"),
        ("a.img,xvda,xvdb", "vdev twice"),
        ("a.img,raw,raw", "no virtual disk"),
        ("a.img,qcow2,xvda", "convert it to raw"),
        ("target=a.img,access=x", "no file"),
        ("access=x,target=a.img", "access is r or w"),
        ("devtype=floppy,target=a.img", "devtype"),
    ],
)
def test_a_wrong_disk_is_named_in_the_complaint(text: str, complaint: str) -> None:
    if text == "target=a.img,access=x":  # what follows target= is its name, commas and all
        assert read_disk(text).spec.path == "a.img,access=x"
        return
    with pytest.raises(PvemuError, match=complaint):
        read_disk(text)


@given(
    st.text(max_size=40)
    | st.lists(st.sampled_from(["a", "=", ",", "target=", "vdev=", "r", "xvda", "raw"])).map("".join)
)
def test_any_text_is_a_disk_or_a_complaint_of_one_line(text: str) -> None:
    try:
        assert read_disk(text).spec.vdev
    except PvemuError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("auto", NicSpec()),
        ("", NicSpec()),
        ("mac=00:16:3e:01:02:03", NicSpec(mac="00:16:3e:01:02:03")),
        ("bridge=lan, mac=00:16:3e:01:02:03, type=vif", NicSpec(mac="00:16:3e:01:02:03", bridge="lan")),
        ("mtu=9000,script=vif-bridge", NicSpec(mtu=9000)),
    ],
)
def test_an_interface_is_described_as_in_xl_cfg(text: str, spec: NicSpec) -> None:
    assert read_interface(text) == spec


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("eth0", "no setting"),
        ("colour=red", "no setting"),
        ("mac=1:2:3", "MAC"),
        ("mac=01:00:00:00:00:00", "group"),
        ("type=ioemu", "type=vif"),
        ("mtu=big", "number of bytes"),
        ("mtu=3", "MTU"),
    ],
)
def test_a_wrong_interface_is_named_in_the_complaint(text: str, complaint: str) -> None:
    with pytest.raises(PvemuError, match=complaint):
        read_interface(text)
