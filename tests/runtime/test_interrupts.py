"""Deferred interrupts: noted at once, effective at the next check, and no longer than deferred."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scalesearch.runtime import interrupts

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def handlers_restored() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_waits_for_the_next_check_however_often_it_comes(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    passed = []
    interrupts.immediate()

    def body() -> None:
        with interrupts.deferred("stopping"):
            interrupts.check()
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
            passed.append("the work at hand ends")
            interrupts.check()
            passed.append("never reached")

    with pytest.raises(KeyboardInterrupt):
        body()
    assert passed == ["the work at hand ends"]
    assert capfd.readouterr().err == "stopping\n"
    interrupts.check()  # it is over
    os.kill(os.getpid(), number)  # and so are the signals that came with the first
    assert capfd.readouterr().err == ""


def test_none_breaks_into_the_end_however_long_the_work_before_it_took() -> None:
    interrupts.immediate(patience=0.5)

    def body() -> None:
        with interrupts.deferred("stopping", patience=0.5):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.6)

    with pytest.raises(KeyboardInterrupt):
        body()
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.6)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("interrupted", [True, False])
def test_afterwards_the_handlers_are_as_before(interrupted: bool) -> None:
    """Also after an interrupt: a notebook's process goes on."""
    before = signal.getsignal(signal.SIGTERM)

    def body() -> None:
        with interrupts.deferred("stopping"):
            assert signal.getsignal(signal.SIGTERM) != before
            if interrupted:
                interrupts.request()

    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            body()
    else:
        body()
    assert signal.getsignal(signal.SIGTERM) == before
    interrupts.check()


def test_in_another_thread_signals_stay_as_they_are_and_a_request_stops_the_work() -> None:
    before, stopped = signal.getsignal(signal.SIGTERM), []

    def body() -> None:
        try:
            interrupts.immediate()
            with interrupts.deferred("stopping"):
                interrupts.check()
                interrupts.request()
                interrupts.check()
        except KeyboardInterrupt:
            stopped.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert stopped == [before]
    interrupts.check()


def test_several_signals_at_once_interrupt_once() -> None:
    interrupts.immediate(patience=0.2)
    time.sleep(0.2)  # another test's signal may have come just before
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.2)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_after_the_last_check_is_not_lost() -> None:
    with pytest.raises(KeyboardInterrupt), interrupts.deferred("stopping"):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_later_signal_ends_work_that_hangs() -> None:
    passed = []

    def body() -> None:
        with interrupts.deferred("stopping", patience=0.0):
            os.kill(os.getpid(), signal.SIGINT)
            passed.append("hangs")
            os.kill(os.getpid(), signal.SIGTERM)
            passed.append("never reached")

    with pytest.raises(KeyboardInterrupt):
        body()
    assert passed == ["hangs"]


@pytest.mark.parametrize("interrupted", [True, False])
def test_a_pipe_that_breaks_is_an_interrupt_only_with_a_signal(interrupted: bool) -> None:
    """As under `2>&1 | tee`, which dies of the same key press."""

    def body() -> None:
        with interrupts.deferred("stopping"):
            if interrupted:
                os.kill(os.getpid(), signal.SIGINT)
            raise BrokenPipeError

    with pytest.raises(KeyboardInterrupt if interrupted else BrokenPipeError):
        body()


def test_an_announcement_to_a_reader_that_has_ended_does_no_harm() -> None:
    """In a process of its own, whose stderr is a pipe that nobody reads."""
    code = (
        "import os, signal\nfrom scalesearch.runtime import interrupts\n"
        "reading, writing = os.pipe(); os.close(reading); os.dup2(writing, 2)\n"
        "with interrupts.deferred('stopping'):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n    print('goes on', flush=True)\n"
        "    try: interrupts.check()\n    except KeyboardInterrupt: os._exit(130)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "goes on\n")


def test_a_signal_that_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interrupts.deferred("stopping"):
        os.kill(os.getpid(), signal.SIGINT)
        interrupts.check()
