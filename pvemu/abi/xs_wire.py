"""The xenstore wire protocol (io/xs_wire.h): message types, error names, a domain's ring page, limits."""

from pvemu.abi.errno import Errno
from pvemu.abi.structure import Field, Structure

XS_CONTROL = 0
XS_DEBUG = XS_CONTROL
XS_DIRECTORY = 1
XS_READ = 2
XS_GET_PERMS = 3
XS_WATCH = 4
XS_UNWATCH = 5
XS_TRANSACTION_START = 6
XS_TRANSACTION_END = 7
XS_INTRODUCE = 8
XS_RELEASE = 9
XS_GET_DOMAIN_PATH = 10
XS_WRITE = 11
XS_MKDIR = 12
XS_RM = 13
XS_SET_PERMS = 14
XS_WATCH_EVENT = 15
XS_ERROR = 16
XS_IS_DOMAIN_INTRODUCED = 17
XS_RESUME = 18
XS_SET_TARGET = 19
XS_RESET_WATCHES = 21  # 20 was XS_RESTRICT
XS_DIRECTORY_PART = 22
XS_TYPE_COUNT = 23
XS_INVALID = 0xFFFF

# Which string of a watch event is which.
XS_WATCH_PATH = 0
XS_WATCH_TOKEN = 1

XENSTORE_RING_SIZE = 1024
XENSTORE_PAYLOAD_MAX = 4096  # bytes behind a header, in both directions
XENSTORE_ABS_PATH_MAX = 3072
XENSTORE_REL_PATH_MAX = 2048

XENSTORE_SERVER_FEATURE_RECONNECTION = 1
XENSTORE_SERVER_FEATURE_ERROR = 2

XENSTORE_CONNECTED = 0
XENSTORE_RECONNECT = 1

XENSTORE_ERROR_NONE = 0
XENSTORE_ERROR_COMM = 1
XENSTORE_ERROR_RINGIDX = 2
XENSTORE_ERROR_PROTO = 3

xsd_errors = (
    Errno.EINVAL,
    Errno.EACCES,
    Errno.EEXIST,
    Errno.EISDIR,
    Errno.ENOENT,
    Errno.ENOMEM,
    Errno.ENOSPC,
    Errno.EIO,
    Errno.ENOTEMPTY,
    Errno.ENOSYS,
    Errno.EROFS,
    Errno.EBUSY,
    Errno.EAGAIN,
    Errno.EISCONN,
    Errno.E2BIG,
    Errno.EPERM,
)
"""The errors that an XS_ERROR message can carry, by name and a NUL."""

xsd_sockmsg = Structure(
    "xsd_sockmsg",
    Field("type", "u32"),  # XS_*
    Field("req_id", "u32"),  # echoed in the reply
    Field("tx_id", "u32"),  # 0 outside transactions
    Field("len", "u32"),  # bytes that follow
)
xenstore_domain_interface = Structure(  # the page shared by a domain and xenstored
    "xenstore_domain_interface",
    Field("req", "char", XENSTORE_RING_SIZE),  # from the guest
    Field("rsp", "char", XENSTORE_RING_SIZE),  # to the guest
    Field("req_cons", "u32"),
    Field("req_prod", "u32"),
    Field("rsp_cons", "u32"),
    Field("rsp_prod", "u32"),
    Field("server_features", "u32"),  # XENSTORE_SERVER_FEATURE_*
    Field("connection", "u32"),  # XENSTORE_CONNECTED or XENSTORE_RECONNECT
    Field("error", "u32"),  # XENSTORE_ERROR_*
)
