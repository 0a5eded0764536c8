# SPDX-License-Identifier: Apache-2.0
"""Programs that use unix sockets, run in a sandbox by unix_sockets.rs. Exit status 0: it worked."""

import ctypes
import errno
import os
import signal
import socket
import struct
import sys
import threading

libc = ctypes.CDLL(None, use_errno=True)


def raw_connect(fd, address):
    """connect(2) without Python's retries; returns the errno, 0 for success."""
    if libc.connect(fd, address, len(address)) == 0:
        return 0
    return ctypes.get_errno()


def path_address(path):
    return struct.pack("H", socket.AF_UNIX) + path.encode() + b"\0"


def listen(path, backlog=128, kind=socket.SOCK_STREAM):
    listener = socket.socket(socket.AF_UNIX, kind)
    listener.bind(path)
    listener.listen(backlog)
    return listener


def connect(path, kind="STREAM"):
    socket.socket(socket.AF_UNIX, getattr(socket, "SOCK_" + kind)).connect(path)


def connect_by_descriptor(path):
    """Through the links to the caller's own descriptors, of the file and of its directory."""
    name = os.path.basename(path)
    directory = os.open(os.path.dirname(path), os.O_PATH)
    file = os.open(path, os.O_PATH)
    ways = [f"/proc/self/fd/{file}", f"/dev/fd/{file}", f"/proc/{os.readlink('/proc/self')}/fd/{file}"]
    ways += [f"/proc/self/fd/{directory}/{name}", f"/proc/thread-self/fd/{directory}/{name}"]
    failed = [way for way in ways if not works(lambda: connect(way))]
    assert not failed, failed


def works(act):
    try:
        act()
        return True
    except OSError:
        return False


def any_way(path):
    """Succeeds if at least one way to the socket works."""
    name = os.path.basename(path)
    here = os.getcwd()
    os.chdir(os.path.dirname(path))
    directory = os.open(".", os.O_PATH)
    file = os.open(name, os.O_PATH)
    own = f"{here}/own-{os.getpid()}"
    listener = listen(own)
    ways = {
        "absolute": lambda: connect(path),
        "relative": lambda: connect(name),
        "dotted": lambda: connect(f"./../{os.path.basename(os.getcwd())}/{name}"),
        "root": lambda: connect(f"/proc/self/root{path}"),
        "directory": lambda: connect(f"/proc/self/cwd/{name}"),
        "descriptor": lambda: connect(f"/proc/self/fd/{file}"),
        "below": lambda: connect(f"/dev/fd/{directory}/{name}"),
    }

    def linked():
        os.symlink(path, f"{here}/soft-{os.getpid()}")
        connect(f"{here}/soft-{os.getpid()}")

    def hard():
        os.link(path, f"{here}/hard-{os.getpid()}")
        connect(f"{here}/hard-{os.getpid()}")

    def over_own():
        # Another socket at the path of one's own.
        os.link(path, f"{here}/other-{os.getpid()}")
        os.rename(f"{here}/other-{os.getpid()}", own)
        connect(own)

    def chrooted():
        os.chroot(os.path.dirname(path))
        connect("/" + name)

    ways |= {"linked": linked, "hard": hard, "over own": over_own, "chrooted": chrooted}
    worked = [name for name, act in ways.items() if works(act)]
    listener.close()
    print("ways that work:", worked)
    assert worked


def datagrams(path):
    """Sends to a datagram socket by each call that takes an address."""
    first = None
    for make in [
        lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
        lambda: socket.socket(socket.AF_UNIX, socket.SOCK_RAW),
        lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0],
        lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_RAW)[0],
        lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC),
        lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK),
    ]:
        try:
            sender = make()
        except OSError as error:
            first = first or error
            continue
        sender.sendto(b"x", path)
        return
    raise first


def swapped(outside, inside):
    """Exchanges address and descriptor while a connect is decided on."""
    listener = listen(inside)
    stop = threading.Event()

    def accept():
        while not stop.is_set():
            listener.accept()[0].close()

    threading.Thread(target=accept, daemon=True).start()
    ways = [path_address(path).ljust(108, b"\0") for path in (inside, outside)]
    buffer = ctypes.create_string_buffer(ways[0], len(ways[0]))
    net = socket.socket()
    net_listener = socket.socket()
    net_listener.bind(("127.0.0.1", 0))
    net_listener.listen(4096)
    slot = os.dup(net.fileno())

    def flip():
        turn = 0
        while not stop.is_set():
            turn ^= 1
            ctypes.memmove(buffer, ways[turn], len(ways[0]))
            with socket.socket(socket.AF_UNIX if turn else socket.AF_INET) as other:
                os.dup2(other.fileno(), slot)

    threading.Thread(target=flip, daemon=True).start()
    reached = 0
    for _ in range(1500):
        with socket.socket(socket.AF_UNIX) as own:
            reached += libc.connect(own.fileno(), buffer, len(ways[0])) == 0
        libc.connect(slot, buffer, len(ways[0]))
    stop.set()
    print("reached", reached)
    assert reached


def nowhere(path):
    """Binds below the descriptors of the sandbox's first process."""
    made = [n for n in range(64) if works(lambda: listen(f"/proc/1/fd/{n}/{path}"))]
    print(made)


def peers(path):
    """The programs of a sandbox talk to each other, whatever name a socket has."""
    listener = listen(path)
    assert listener.getsockname() == path
    connect(path)
    os.rename(path, path + ".renamed")
    os.link(path + ".renamed", path + ".linked")
    os.symlink(path + ".linked", path + ".soft")
    for name in [".renamed", ".linked", ".soft"]:
        connect(path + name)
    connect_by_descriptor(path + ".linked")
    os.chdir(os.path.dirname(path))
    connect("./" + os.path.basename(path) + ".soft")
    packets = listen(path + ".packets", kind=socket.SOCK_SEQPACKET)
    connect(path + ".packets", "SEQPACKET")
    packets.close()
    abstract = listen("\0" + path)
    connect("\0" + path)
    abstract.close()
    # Paths relative to a descriptor, for names that are too long otherwise.
    directory = os.open(os.path.dirname(path), os.O_PATH)
    below = listen(f"/proc/self/fd/{directory}/below")
    connect(os.path.join(os.path.dirname(path), "below"))
    below.close()
    unnamed = socket.socket(socket.AF_UNIX)
    unnamed.bind("")
    assert unnamed.getsockname().startswith(b"\0"), unnamed.getsockname()


def errors(path):
    """The errors are those of connect(2) and bind(2)."""

    def code(act):
        try:
            act()
        except OSError as error:
            return errno.errorcode[error.errno]
        return "0"

    os.mkdir(path)
    os.mkdir(path + "/closed", 0o500)
    open(path + "/file", "w").close()
    os.symlink("loop", path + "/loop")
    stale = listen(path + "/stale")
    stale.close()
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(path + "/unheard")
    connected = socket.socket(socket.AF_UNIX)
    listener = listen(path + "/heard")
    connected.connect(path + "/heard")
    new = lambda: socket.socket(socket.AF_UNIX)
    one = new()
    raw = lambda fd, address: errno.errorcode.get(raw_connect(fd, address), "0")
    os.umask(0o027)
    listen(path + "/masked").close()
    mode = oct(os.stat(path + "/masked").st_mode & 0o777)
    far = socket.socket()
    far.setblocking(False)
    found = {
        "missing": code(lambda: connect(path + "/missing")),
        "file": code(lambda: connect(path + "/file")),
        "below a file": code(lambda: connect(path + "/file/x")),
        "loop": code(lambda: connect(path + "/loop")),
        "stale": code(lambda: connect(path + "/stale")),
        "unheard": code(lambda: connect(path + "/unheard")),
        "type": code(lambda: connect(path + "/heard", "SEQPACKET")),
        "twice": raw(connected.fileno(), path_address(path + "/stale")),
        "no name": code(lambda: connect("")),
        "abstract": code(lambda: connect("\0nobody")),
        "bound": code(lambda: new().bind(path + "/file")),
        "bound twice": code(lambda: bound.bind(path + "/more")),
        "bound nowhere": code(lambda: new().bind(path + "/missing/x")),
        "closed": code(lambda: new().bind(path + "/closed/x")) if os.geteuid() else "EACCES",
        "descriptor": raw(999, path_address(path + "/heard")),
        "negative": raw(-1, path_address(path + "/heard")),
        "no socket": raw(sys.stdin.fileno(), path_address(path + "/heard")),
        "family": raw(one.fileno(), struct.pack("H", 99) + b"/x\0"),
        "short": raw(one.fileno(), b"\1"),
        "long": raw(one.fileno(), path_address("x" * 120)),
        "longer": raw(one.fileno(), path_address("x" * 200)),
        "port": code(lambda: socket.socket().bind(("127.0.0.1", 80))) if os.geteuid() else "EACCES",
        "address": code(lambda: socket.socket().bind(("192.0.2.1", 0))),
        "refused": code(lambda: socket.socket().connect(("127.0.0.1", 9))),
        "mode": mode,
    }
    libc.connect.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint]
    found["memory"] = errno.errorcode[
        libc.connect(one.fileno(), 4096, 20) and ctypes.get_errno()
    ]
    listener.close()
    for name, value in found.items():
        print(f"{name}: {value}")


def backlog(path):
    """A connect that waits for a full queue holds up no other, and succeeds in the end."""
    full = listen(path, backlog=0)
    other = listen(path + ".other")
    first = socket.socket(socket.AF_UNIX)
    first.connect(path)
    waiting = [socket.socket(socket.AF_UNIX) for _ in range(20)]
    results = []

    def wait(one):
        results.append(raw_connect(one.fileno(), path_address(path)))

    threads = [threading.Thread(target=wait, args=(one,)) for one in waiting]
    for thread in threads:
        thread.start()
    blocked = socket.socket(socket.AF_UNIX)
    blocked.setblocking(False)
    assert raw_connect(blocked.fileno(), path_address(path)) == errno.EAGAIN
    limited = socket.socket(socket.AF_UNIX)
    limited.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 50_000))
    assert raw_connect(limited.fileno(), path_address(path)) == errno.EAGAIN
    for _ in range(100):
        connect(path + ".other")
        other.accept()[0].close()
    for _ in range(21):
        full.accept()[0].close()
    for thread in threads:
        thread.join()
    assert results == [0] * 20, results
    assert all(one.getblocking() for one in waiting)


def signals(path):
    """Signals interrupt or repeat a connect, as without a sandbox."""
    full = listen(path, backlog=0)
    filler = socket.socket(socket.AF_UNIX)
    filler.connect(path)
    for repeats in [True, False]:
        libc.signal(signal.SIGALRM, ctypes.cast(libc.abs, ctypes.c_void_p))
        signal.siginterrupt(signal.SIGALRM, not repeats)
        signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
        one = socket.socket(socket.AF_UNIX)
        results = []
        drain = threading.Timer(0.2, lambda: full.accept()[0].close())
        drain.start()
        while not results or results[-1] == errno.EINTR:
            results.append(raw_connect(one.fileno(), path_address(path)))
        signal.setitimer(signal.ITIMER_REAL, 0)
        drain.join()
        assert results[-1] == 0, (repeats, results)
        assert (len(results) == 1) == repeats, (repeats, len(results))
        full.accept()[0].close()
        filler = socket.socket(socket.AF_UNIX)
        filler.connect(path)


def storm(port):
    """Short connects under a flood of signals: each is carried out once and reported right."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", int(port)))
    listener.listen(4096)
    libc.signal(signal.SIGALRM, ctypes.cast(libc.abs, ctypes.c_void_p))
    signal.siginterrupt(signal.SIGALRM, False)
    address = struct.pack("!2sH4s8x", struct.pack("H", socket.AF_INET), listener.getsockname()[1],
                          socket.inet_aton("127.0.0.1"))
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    results = {}
    for turn in range(3000):
        one = socket.socket()
        one.setblocking(turn % 2 == 0)
        result = raw_connect(one.fileno(), address)
        results[result] = results.get(result, 0) + 1
        one.close()
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(results)
    assert set(results) <= {0, errno.EINPROGRESS}, results


def ended(path):
    """The end of a program that waits for a connect ends its socket."""
    full = listen(path, backlog=0)
    first = socket.socket(socket.AF_UNIX)
    first.connect(path)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        # The number in the view of /proc, which may be of an outer namespace.
        os.write(write, os.readlink("/proc/self").encode())
        one = socket.socket(socket.AF_UNIX)
        raw_connect(one.fileno(), path_address(path))
        os._exit(0)
    number = os.read(read, 32).decode()
    # Until the child waits in its call.
    state = lambda: open(f"/proc/{number}/stat").read().rpartition(")")[2].split()[0]
    while state() != "S":
        assert state() != "Z"
        os.sched_yield()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    full.accept()[0].close()
    connect(path)


def users(path):
    """Each user of root's sandbox has the rights of that user, and is shown as that user."""
    os.chmod(path, 0o777)
    listeners = {}
    for name, mode in [("open", 0o777), ("closed", 0o700)]:
        listeners[name] = listen(f"{path}/{name}")
        os.chmod(f"{path}/{name}", mode)
    peer = lambda name: struct.unpack(
        "3i", listeners[name].accept()[0].getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    )[1:]
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(33, 33, 33)
        os.setresuid(33, 33, 33)
        connect(f"{path}/open")
        own = listen(f"{path}/own")
        about = os.stat(f"{path}/own")
        assert (about.st_uid, about.st_gid) == (33, 33), about
        connect(f"{path}/own")
        assert not works(lambda: connect(f"{path}/closed"))
        assert not works(lambda: listen("/root/socket"))
        assert not works(lambda: socket.socket().bind(("127.0.0.1", 80)))
        own.close()
        os._exit(0)
    assert peer("open") == (33, 33)
    assert os.waitpid(child, 0)[1] == 0
    connect(f"{path}/closed")
    assert peer("closed") == (0, 0)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
