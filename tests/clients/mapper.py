"""mapper.py: maps files on command, one a line, and says what it finds; each answer is one line.

load PATH          loads a shared library
free COUNT         calls SSL_free(NULL) of the last library that many times
differs PATH       how many bytes of its code, in this process's memory, are not as in the file
map PATH           maps the first page of a file as code
code PATH          maps a whole file as code
"""
import ctypes, mmap, os, sys

library = None


def differs(path):
    data, found = open(path, "rb").read(), 0
    memory = os.open("/proc/self/mem", os.O_RDONLY)
    for line in open("/proc/self/maps"):
        fields = line.split(maxsplit=5)
        if len(fields) < 6 or fields[5].strip() != path or "x" not in fields[1]:
            continue
        start, end = (int(edge, 16) for edge in fields[0].split("-"))
        offset = int(fields[2], 16)
        for at in range(start, end, mmap.PAGESIZE):
            try:
                page = os.pread(memory, mmap.PAGESIZE, at)
            except OSError:
                continue  # behind the end of a file that became shorter
            there = data[offset + at - start :][: len(page)]
            if page[: len(there)] != there:
                found += sum(a != b for a, b in zip(page, there))
    os.close(memory)
    return found


kept = []
print("ready", flush=True)
for line in sys.stdin:
    what, _, argument = line.strip().partition(" ")
    try:
        if what == "load":
            library = ctypes.CDLL(argument)
            kept.append(library)
            answer = "loaded"
        elif what == "free":
            for _ in range(int(argument)):
                library.SSL_free(None)
            answer = "called"
        elif what == "differs":
            answer = f"differs {differs(argument)}"
        elif what in ("map", "code"):
            length = 4096 if what == "map" else 0
            with open(argument, "rb") as file:
                kept.append(mmap.mmap(file.fileno(), length, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC))
            answer = "mapped"
    except OSError as error:
        answer = f"error {error}"
    print(answer, flush=True)
