#!/usr/bin/env python3
"""The shape of the kernels' compiled code, without a GPU: static_test.py LIBRARY TABLE [--print].

For each row of TABLE (kernels/sm_90a.txt, which is about that architecture) the kernel's registers, stack, blocks per
multiprocessor and instructions are compared with what cuobjdump says of LIBRARY. Each kernel needs a row. The kernels'
PTX is assembled once more to see what ptxas says of spills and of serialized matrix instructions
(C75xx). Before, each kind of row is planted with a fault that must be found. --print: rows for what
is there, to copy a new kernel's from.

In place of LIBRARY, the PTX of its sources, a file each: of an architecture that the library was not compiled for.
"""
import argparse
import collections
import concurrent.futures
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

# Of a multiprocessor (CUDA C++ Programming Guide, table of compute capabilities).
REGISTERS, THREADS, BLOCKS = 65536, 2048, 32
SHARED = {"sm_80": 164 << 10, "sm_90a": 228 << 10, "sm_100": 228 << 10}
RESERVED_SHARED = 1 << 10  # per block, by the system

# Required where a kernel has them: --print.
WIDE = ("LDG.E.128", "STG.E.128", "LDS.128", "HMMA", "HGMMA", "LDGSTS.E.BYPASS.128", "UTMALDG", "LDSM")

Kernel = collections.namedtuple("Kernel", "registers stack threads code")
Listing = collections.namedtuple("Listing", "usage code ptx")
Row = collections.namedtuple("Row", "line registers stack shared blocks must never")


def said(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def short(name):
    """rows_kernel<Row<Bf16,32>> of void fst::(anonymous namespace)::rows_kernel<fst::Row<fst::Bf16, 32> >(...)."""
    name = re.sub(r"\(anonymous namespace\)::|\w+::", "", name).replace(", ", ",").replace(" >", ">")
    name = re.sub(r"\(\w+\)(?=\d)", "", name)  # of an enumerator
    return name.split("(")[0].split(" ")[-1]


def by_member(text):
    """The listing's parts by source file: token_law of "member libx.a:token_law.cu.o:"."""
    parts = re.split(r"^member .*?:(\w+)\.cu\.o:$", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def of_library(library, architecture):
    """What cuobjdump says of the library's code, by source file."""
    usage, code = (by_member(said("cuobjdump", "-arch", architecture, what, library)) for what in ("-res-usage", "-sass"))
    ptx = by_member(said("cuobjdump", "-ptx", library))
    return {file: Listing(usage[file], code.get(file, ""), ptx.get(file, "")) for file in usage}


def of_cubins(files):
    """The same of PTX files, which have their cubins beside them."""
    return {file.stem: Listing(*(said("cuobjdump", what, f"{file}.cubin") for what in ("-res-usage", "-sass")),
                               file.read_text()) for file in files}


def kernels_of(listings):
    """All kernels by "file:name"."""
    found, threads = {}, {}
    for listing in listings.values():
        threads.update(re.findall(r"\.entry (\w+)\([^)]*\)\s*\.maxntid (\d+)", listing.ptx))
    mangled = sorted(threads)
    names = dict(zip(mangled, map(short, said("c++filt", *mangled).splitlines())))
    for file, listing in listings.items():
        codes = dict(re.findall(r"Function : (\w+)\n(.*?)(?=\n\t\tFunction : |\Z)", listing.code, re.S))
        for name, registers, stack in re.findall(r"Function (\w+):\s+REG:(\d+) STACK:(\d+)", listing.usage):
            found[f"{file}:{names[name]}"] = Kernel(int(registers), int(stack), int(threads[name]), codes[name])
    return found


def blocks_of(kernel, shared, most_shared):
    """How many blocks a multiprocessor holds."""
    warps = -(-kernel.threads // 32)
    by_registers = REGISTERS // (-(-kernel.registers // 8) * 8 * 32 * warps)
    return min(by_registers, THREADS // kernel.threads, BLOCKS, most_shared // (shared + RESERVED_SHARED))


def rows_of(table):
    rows = {}
    for number, line in enumerate(table.splitlines(), 1):
        cells = line.split("#")[0].split()
        if not cells:
            continue
        if len(cells) != 7:
            raise SystemExit(f"line {number}: expected 7 columns, found {len(cells)}")
        words = [[] if cell == "-" else cell.split(",") for cell in cells[5:]]
        rows[cells[0]] = Row(number, *map(int, cells[1:5]), *words)
    return rows


def faults(kernels, rows, most_shared):
    """What differs from the table, as 'kernel: what'."""
    for name in sorted(kernels.keys() - rows.keys()):
        yield f"{name}: has no row"
    for name, row in rows.items():
        if name not in kernels:
            yield f"{name}: no such kernel"
            continue
        kernel = kernels[name]
        if kernel.registers > row.registers:
            yield f"{name}: {kernel.registers} registers, more than {row.registers}"
        if kernel.stack > row.stack:
            yield f"{name}: {kernel.stack} bytes of stack, more than {row.stack}"
        blocks = blocks_of(kernel, row.shared, most_shared)
        if blocks < row.blocks:
            yield f"{name}: {blocks} blocks on a multiprocessor, fewer than {row.blocks}"
        yield from (f"{name}: no {word}" for word in row.must if not contains(kernel, word))
        never = row.never + ([] if row.stack else ["LDL", "STL"])
        yield from (f"{name}: has {word}" for word in never if contains(kernel, word))
        if any(word.startswith(("LDGSTS", "UTMALDG")) for word in row.must):
            yield from (f"{name}: multiplies beside {load}" for load in narrow_loads(kernel))


def contains(kernel, word):
    """Whether an instruction of this name, or of a name that goes on behind a dot, is there."""
    return re.search(rf"\s{re.escape(word)}[.\s;]", kernel.code) is not None


def narrow_loads(kernel):
    """Loads of less than 16 bytes from device memory in the innermost loops around matrix instructions."""
    code = [(int(at, 16), text) for at, text in re.findall(r"/\*([0-9a-f]{4,})\*/\s+([^;]*?)\s*;", kernel.code)]
    jumps = [(at, re.search(r"\bBRA\b.*\b0x([0-9a-f]+)$", text)) for at, text in code]
    loops = [(int(to[1], 16), at) for at, to in jumps if to and int(to[1], 16) <= at]
    inner = {min((loop for loop in loops if loop[0] <= at <= loop[1]), key=lambda loop: loop[1] - loop[0],
                 default=(0, code[-1][0]))  # no loop: all of it
             for at, text in code if re.search(r"\bHG?MMA\b", text)}
    return [text for at, text in code if re.search(r"\bLDG\b(?!\S*\.128)", text)
            and any(begin <= at <= end for begin, end in inner)]


def spilled(text):
    """The kernels, by their mangled names, of which ptxas says that they spill."""
    return [name for name, said_of in re.findall(r"Compiling entry function '(\w+)'(.*?)(?=Compiling entry|\Z)", text, re.S)
            if "spill stores" in said_of and not re.search(r" 0 bytes spill stores, 0 bytes spill loads", said_of)]


def complaints(text, rows):
    """What ptxas said that must not be: serialized matrix instructions, and spills of kernels that may have no stack."""
    yield from re.findall(r".*\bC75\d\d\b.*", text)
    spill = spilled(text)
    for name in map(short, said("c++filt", *spill).splitlines() if spill else []):
        if not any(row.stack for kernel, row in rows.items() if kernel.split(":")[1] == name):
            yield f"spills: {name}"


def ptx_of(library, architecture, folder):
    """The architecture's PTX in the library, written to the folder."""
    listed = subprocess.run(["cuobjdump", "-xptx", "all", library], cwd=folder, capture_output=True, text=True,
                            check=True).stdout
    return [folder / file for file, of in re.findall(r"(\S+\.ptx) -arch=(\S+)", listed) if of == architecture]


def assembled(files, architecture):
    """What ptxas says of PTX files, whose cubins it writes beside them."""
    def assemble(file):
        done = subprocess.run(["ptxas", "-v", "-fmad=false", f"-arch={architecture}", file, "-o", f"{file}.cubin"],
                              capture_output=True, text=True, check=True)
        return done.stdout + done.stderr
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return "".join(pool.map(assemble, files))


def compiled(product, architecture):
    """The kernels of the library or PTX files, and what ptxas says of them."""
    if len(product) == 1 and product[0].suffix == ".a":
        with tempfile.TemporaryDirectory() as folder:
            said_of = assembled(ptx_of(product[0].resolve(), architecture, pathlib.Path(folder)), architecture)
        return kernels_of(of_library(product[0], architecture)), said_of
    with tempfile.TemporaryDirectory() as folder:
        files = [pathlib.Path(shutil.copy(file, folder)) for file in product]
        said_of = assembled(files, architecture)
        return kernels_of(of_cubins(files)), said_of


def planted(kernels, rows, most_shared):
    """Faults that are put in and not found."""
    name = next(name for name, row in rows.items() if row.must)
    row, kernel = rows[name], kernels[name]
    changed = {"registers, more": {name: row._replace(registers=kernel.registers - 1)},
               "blocks on a multiprocessor": {name: row._replace(blocks=row.blocks + 32)},
               "no LDG.E.512": {name: row._replace(must=["LDG.E.512"])},
               f"has {row.must[0]}": {name: row._replace(never=row.must[:1])},
               "no such kernel": {"nowhere:kernel": row}}
    for says, change in changed.items():
        if not any(says in fault for fault in faults(kernels, {**rows, **change}, most_shared)):
            yield f"planted, not found: {says}"
    if not any("has no row" in fault for fault in faults(kernels, {}, most_shared)):
        yield "planted, not found: has no row"
    deep = {**kernels, name: kernel._replace(stack=8, code=kernel.code + "\n  STL [R1], R2 ;")}
    if len([fault for fault in faults(deep, rows, most_shared) if fault.startswith(f"{name}: ")]) < 2:
        yield "planted, not found: a spill"
    name = next(name for name, row in rows.items() if "HMMA" in row.must and "LDGSTS.E.BYPASS.128" in row.must)
    code = re.sub(r"(/\*[0-9a-f]+\*/\s+)(HMMA)", r"\1LDG.E.U16 R2, desc[UR4][R2.64] ;\n\1\2", kernels[name].code)
    narrow = {**kernels, name: kernels[name]._replace(code=code)}
    if not any("multiplies beside LDG.E.U16" in fault for fault in faults(narrow, rows, most_shared)):
        yield "planted, not found: a narrow load"
    for text in ("ptxas info : (C7510) Potential Performance Loss: wgmma serialized",
                 "ptxas info : Compiling entry function '_Z6kernelv' for 'sm_90a'\n"
                 "    8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads"):
        if not list(complaints(text, rows)):
            yield f"planted, not found: {text}"


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("product", nargs="+", type=pathlib.Path)
    arguments.add_argument("table", type=pathlib.Path)
    arguments.add_argument("--print", action="store_true", dest="show")
    options = arguments.parse_args()
    architecture = options.table.stem
    most_shared = SHARED[architecture]
    kernels, said_of = compiled(options.product, architecture)
    rows = rows_of(options.table.read_text())
    if options.show:
        for name, kernel in kernels.items():
            row = rows.get(name, Row(0, 0, 0, 0, 0, [], []))
            must = row.must + [word for word in WIDE if word not in row.must and contains(kernel, word)]
            print(f"{name:42}{-(-kernel.registers // 8) * 8:5}{kernel.stack:6}{row.shared:9}"
                  f"{blocks_of(kernel, row.shared, most_shared):7}   {','.join(must) or '-'} {','.join(row.never) or '-'}")
        return
    count = len(re.findall("spill stores", said_of))
    found = [*faults(kernels, rows, most_shared), *planted(kernels, rows, most_shared), *complaints(said_of, rows)]
    if count < len(kernels):
        found.append(f"ptxas spoke of {count} kernels, there are {len(kernels)}")
    print("\n".join(found) or f"{architecture}: {len(kernels)} kernels are as the table says")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
