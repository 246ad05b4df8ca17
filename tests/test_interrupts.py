"""Deferred interrupts: noted at once, effective where they are asked for, and no longer than deferred."""

import os
import signal

import pytest

from scalesearch import interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_next_check_however_often_it_comes(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    before, passed = signal.getsignal(number), []

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
    assert signal.getsignal(number) == before
    interrupts.check()  # it is over


def test_a_signal_behind_the_last_check_is_not_lost() -> None:
    with pytest.raises(KeyboardInterrupt), interrupts.deferred("stopping"):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts.deferred("stopping"):
            os.kill(os.getpid(), signal.SIGINT)
            interrupts.check()
    finally:
        signal.signal(signal.SIGINT, before)
