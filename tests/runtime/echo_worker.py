"""A worker for the tests: does what its instruction says."""

import os
import resource
import signal
import sys
import time

from scalesearch.runtime import interrupts, workers


def main() -> int:
    interrupts.immediate()
    instruction = workers.instruction()
    if "limit" in instruction:
        resource.setrlimit(resource.RLIMIT_AS, (instruction["limit"],) * 2)
        sys.stderr.write(f"{instruction['lines']}\n")
        bytearray(instruction["limit"])
    workers.report({"cores": instruction.get("cores"), "variable": os.environ.get("VARIABLE")})
    sys.stdout.write("no JSON\n[1]\n")
    sys.stderr.write("first\nlast words\n")
    sys.stderr.flush()
    if instruction.get("signal"):
        os.kill(os.getpid(), getattr(signal, instruction["signal"]))
    try:
        time.sleep(instruction.get("seconds", 0.0))
    except KeyboardInterrupt:
        return 130
    return int(instruction.get("exit_code", 0))


if __name__ == "__main__":
    sys.exit(main())
