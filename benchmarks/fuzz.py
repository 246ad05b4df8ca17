"""Reads damaged and forged inputs by the thousand, and counts what becomes of each.

Run: python benchmarks/fuzz.py [--quick] [--only NAME …] [--inputs N] [--output FILE.json] [--keep DIR]
     python benchmarks/fuzz.py --only npz --show 4711   (what became of one input, with its traceback)

Each reader of `tests/fuzzing/targets.py` gets 10,000 inputs, those that take longer than 50 ms each a tenth of that:
small real files, one to four changes in each (`tests/fuzzing/mutate.py`). An input depends on its number alone. It must
be read, or refused by an error of ours in one line (exit code 2, 3 or 4), within 10 s and 1 GiB. Inputs are read in
child processes whose address space ends 1 GiB above what they have after reading the real files; one that dies or takes
longer is counted, and another goes on. Prints JSON: counts by exit code, the slowest, the largest, and what was
unexpected, with how often and the numbers of the first such inputs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the inputs are the tests'

from tests.fuzzing.mutate import Files
from tests.fuzzing.targets import input_of, outcome, seeds_of, targets, write_files

INPUTS, QUICK = 10_000, 200
SECONDS, MEMORY = 10.0, 2**30
SHOWN = 20


def child(name: str, numbers: range) -> None:
    """Reads inputs, and prints a line before and after each."""
    target = targets()[name]
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what readers print goes elsewhere
    with tempfile.TemporaryDirectory() as parent:
        for variable in ("SCALESEARCH_CACHE_DIR", "HF_HOME", "TFDS_DATA_DIR"):
            os.environ[variable] = f"{parent}/{variable}"
        seeds = seeds_of(target, Path(parent, "seeds"))
        place = Path(parent, "input")

        def read(files: Files) -> tuple[str, str]:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            write_files(place, files)
            return outcome(target, place)

        accepted = [read(files)[0] for files in seeds]
        resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + MEMORY, -1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        print(json.dumps({"seeds": len(seeds), "accepted": accepted.count("0")}), file=lines, flush=True)
        for number in numbers:
            files = input_of(name, number, seeds, target.tokens)
            print(json.dumps({"number": number}), file=lines, flush=True)
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            before, start = memory("VmRSS"), time.perf_counter()
            code, why = read(files)
            seconds, used = time.perf_counter() - start, memory("VmHWM") - before
            print(json.dumps({"code": code, "why": why, "seconds": seconds, "bytes": used}), file=lines, flush=True)


def memory(kind: str) -> int:
    """Bytes of memory of this process, by a name of Linux."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{kind}:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"no {kind} in /proc/self/status")


def fuzz(name: str, inputs: int) -> dict[str, Any]:
    """Reads so many inputs, in as many processes as it takes."""
    found: dict[str, Any] = {"seeds": 0, "accepted": 0}
    codes: Counter[str] = Counter()
    kinds: dict[str, list[int]] = {}
    slowest, largest, done, start = (0.0, -1), (0, -1), 0, time.perf_counter()

    def count(code: str, why: str, number: int) -> None:
        codes[code] += 1
        if why:
            kinds.setdefault(why, []).append(number)

    while done < inputs:
        command = [sys.executable, __file__, "--child", name, str(done), str(inputs)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        lines: queue.Queue[str] = queue.Queue()
        assert process.stdout is not None
        threading.Thread(target=_pass_on, args=(process.stdout, lines), daemon=True).start()
        number, limit = -1, 300.0
        while True:
            try:
                line = lines.get(timeout=limit)
            except queue.Empty:
                process.kill()
                line, why = "", f"over {limit:.0f} s"
            else:
                why = "" if line else _ending(process.wait())
            if not line:
                if number >= 0:
                    count("unexpected", why, number)
                    done = number + 1
                elif done < inputs:
                    raise SystemExit(f"{name}: the process ended before its first input: {why}")
                break
            said = json.loads(line)
            if "seeds" in said:
                found |= said
            elif "number" in said:
                number, limit = said["number"], SECONDS
            else:
                count(said["code"], said["why"], number)
                slowest, largest = max(slowest, (said["seconds"], number)), max(largest, (said["bytes"], number))
                number, done, limit = -1, number + 1, 60.0
                if done == inputs:
                    break
        process.wait()
    return {
        **found,
        "inputs": inputs,
        "codes": dict(sorted(codes.items())),
        "slowest": {"s": round(slowest[0], 3), "input": slowest[1]},
        "largest": {"mib": round(largest[0] / 2**20, 1), "input": largest[1]},
        "seconds": round(time.perf_counter() - start, 1),
        "unexpected": {why: [len(numbers), *numbers[:3]] for why, numbers in list(kinds.items())[:SHOWN]},
    }


def _pass_on(stream: Any, lines: queue.Queue[str]) -> None:
    for line in stream:
        lines.put(line)
    lines.put("")


def _ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"


def show(name: str, number: int, keep: Path | None) -> None:
    """What becomes of one input, without limits."""
    target = targets()[name]
    with tempfile.TemporaryDirectory() as parent:
        files = input_of(name, number, seeds_of(target, Path(parent, "seeds")), target.tokens)
        place = keep or Path(parent, "input")
        place.mkdir(exist_ok=True)
        write_files(place, files)
        print(f"{name} {number}: {', '.join(f'{file} ({len(content):,})' for file, content in files.items())}")
        target.read(place)


def main() -> None:
    """Fuzz and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="readers")
    parser.add_argument("--inputs", type=int, default=INPUTS, help="for each reader (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} inputs for each reader")
    parser.add_argument("--output", type=Path, help="also write the JSON here")
    parser.add_argument("--show", type=int, metavar="NUMBER", help="read one input of --only NAME, here")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where --show leaves the input")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, start, stop = arguments.child
        child(name, range(int(start), int(stop)))
        return
    if arguments.show is not None:
        show(arguments.only[0], arguments.show, arguments.keep)
        return
    readers = {}
    for name, target in targets().items():
        if not arguments.only or name in arguments.only:
            inputs = QUICK if arguments.quick else arguments.inputs
            readers[name] = fuzz(name, inputs // 10 if target.slow else inputs)
            print(f"{name}: {json.dumps(readers[name], ensure_ascii=False)}", file=sys.stderr, flush=True)
    report = {
        "date": time.strftime("%Y-%m-%d"), "machine": platform.machine(), "cores": os.cpu_count(),
        "python": platform.python_version(), "limits": {"seconds": SECONDS, "mib": MEMORY // 2**20}, "readers": readers,
    }  # fmt: skip
    text = json.dumps(report, indent=2, ensure_ascii=False)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")
    if any(found["codes"].get("unexpected") for found in readers.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
