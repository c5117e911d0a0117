"""stuck_fs.py FOLDER: a file system over FUSE with one file, `file`. It answers until it reads a line, then never again.

See fuse(4) and include/uapi/linux/fuse.h.
"""
import ctypes, os, select, struct, sys

LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE, FLUSH, INIT = 1, 2, 3, 14, 15, 17, 18, 25, 26
libc = ctypes.CDLL(None, use_errno=True)
device = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
if libc.mount(b"stuck", sys.argv[1].encode(), b"fuse.stuck", 0, options):
    sys.exit("cannot mount: " + os.strerror(ctypes.get_errno()))
print("mounted", flush=True)


def attributes(node):
    mode = 0o40755 if node == 1 else 0o100755
    return struct.pack("<QQQQQQIIIIIIIIII", node, 8192, 16, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def answer(operation, node):
    if operation == INIT:
        return struct.pack("<IIIIHHIIHHI", 7, 31, 65536, 0, 16, 12, 65536, 1, 0, 0, 0) + bytes(28)
    if operation == LOOKUP:
        return struct.pack("<QQQQII", 2, 0, 0, 0, 0, 0) + attributes(2)
    if operation == GETATTR:
        return struct.pack("<QII", 0, 0, 0) + attributes(node)
    if operation == OPEN:
        return struct.pack("<QII", 1, 0, 0)
    if operation == READ:
        return bytes(4096)
    if operation == STATFS:
        return bytes(80)
    if operation in (FLUSH, RELEASE):
        return b""
    return None


answers = True
while True:
    ready, _, _ = select.select([device] + [sys.stdin] * answers, [], [])
    if sys.stdin in ready:
        sys.stdin.readline()
        answers = False
        print("stuck", flush=True)
        continue
    try:
        request = os.read(device, 1 << 20)
    except OSError:
        break
    _, operation, unique, node = struct.unpack_from("<IIQQ", request)
    if operation == FORGET or not answers:
        continue
    data = answer(operation, node)
    error = 0 if data is not None else -38
    os.write(device, struct.pack("<IiQ", 16 + len(data or b""), error, unique) + (data or b""))
