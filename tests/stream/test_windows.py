from __future__ import annotations

from guardrail.stream.settings import Mode, StreamSettings
from guardrail.stream.windows import ChannelWindows

from .harness import TEXT

SMALL = StreamSettings(first_chars=8, stride_chars=16, lookahead_chars=4, context_chars=6)


def fed(text: str, settings: StreamSettings = SMALL) -> ChannelWindows:
    windows = ChannelWindows(TEXT, settings)
    windows.append(text)
    return windows


def test_the_first_window_has_no_context() -> None:
    window, text, context = fed("abcdefgh").cut(0)
    assert (window.start, window.end, text, context) == (0, 8, "abcdefgh", "")


def test_the_next_window_starts_where_the_last_stops_clearing() -> None:
    windows = fed("abcdefgh")
    windows.cut(0)
    windows.settle(0)
    assert (windows.judged, windows.cleared) == (8, 4)
    windows.append("ijklmnopqrstuvwx")
    window, text, context = windows.cut(1)
    assert (window.start, window.end) == (4, 24)
    assert (text, context) == ("efghijklmnopqrstuvwx", "abcd")


def test_context_is_the_text_just_before_the_window_and_no_longer_than_set() -> None:
    windows = fed("a" * 8)
    for check_id, letter in enumerate("bcd"):
        windows.cut(check_id)
        windows.append(letter * 16)
    window, text, context = windows.cut(3)
    assert window.start == 36
    assert (context, text) == ("c" * 6, "c" * 4 + "d" * 16)


def test_the_look_ahead_is_at_most_half_of_the_new_text() -> None:
    windows = fed("abc")
    windows.cut(0)
    windows.settle(0)
    assert windows.cleared == 2


def test_without_look_ahead_or_context_nothing_is_kept() -> None:
    settings = StreamSettings(first_chars=4, stride_chars=4, lookahead_chars=0, context_chars=0)
    windows = fed("abcd", settings)
    windows.cut(0)
    windows.append("efgh")
    assert windows.cut(1)[1:] == ("efgh", "")


def test_a_stride_is_due_at_its_bound_or_a_little_early_after_a_word() -> None:
    assert not fed("abcdefg").due()
    assert fed("abcdefgh").due()
    assert fed("abcdef ").due()
    assert not fed("abcde ").due()
    assert fed("abcdefg").due_before(" next")
    assert not fed("abcdefg").due_before("next")


def test_even_the_least_stride_grows() -> None:
    windows = ChannelWindows(TEXT, StreamSettings(first_chars=1, growth=1.5))
    grown = []
    for check_id in range(5):
        size = 0
        while not windows.due():
            windows.append("x")
            size += 1
        windows.cut(check_id)
        grown.append(size)
    assert grown == [1, 2, 3, 5, 8]


def test_only_the_unbroken_prefix_of_passed_windows_counts() -> None:
    windows = fed("a" * 8)
    for check_id in range(3):
        windows.cut(check_id)
        windows.append("b" * 16)
    windows.settle(2)
    windows.settle(1)
    assert windows.judged == 0
    windows.settle(0)
    assert (windows.judged, windows.cleared) == (40, 36)


def test_modes_that_do_not_hold_clear_all_that_is_judged() -> None:
    windows = fed("a" * 8, StreamSettings(mode=Mode.TRAIL, first_chars=8))
    windows.cut(0)
    windows.settle(0)
    assert windows.cleared == 8


def test_the_end_clears_what_was_judged_to_the_end_and_no_more() -> None:
    windows = fed("a" * 8)
    windows.cut(0)
    windows.append("b")
    windows.settle(0)
    windows.end()
    assert windows.cleared == 4
    assert windows.due()
    windows.cut(1)
    windows.settle(1)
    assert windows.idle


def test_force_asks_for_a_check_of_text_that_none_covers() -> None:
    windows = fed("a" * 8)
    assert windows.force(1)
    assert windows.due()
    windows.cut(0)
    windows.settle(0)
    assert windows.cleared == 4, "there is look-ahead enough"


def test_force_gives_up_no_more_look_ahead_than_it_must() -> None:
    for need, cleared in ((4, 4), (6, 6), (8, 8)):
        windows = fed("a" * 8)
        windows.force(need)
        windows.cut(0)
        windows.settle(0)
        assert windows.cleared == cleared


def test_force_on_a_window_in_flight_waits_for_its_verdict() -> None:
    windows = fed("a" * 8)
    windows.cut(0)
    windows.append("b")
    assert not windows.force(7)
    assert windows.cleared == 0
    windows.settle(0)
    assert windows.cleared == 7


def test_force_waits_for_a_check_that_judges_the_tail_again() -> None:
    windows = fed("a" * 8)
    windows.cut(0)
    windows.settle(0)
    windows.append("b" * 8)
    windows.cut(1)
    assert not windows.force(6)
    assert windows.cleared == 4
    windows.settle(1)
    assert windows.cleared == 12


def test_force_on_a_judged_tail_that_nothing_follows_clears_it_at_once() -> None:
    windows = fed("a" * 8)
    windows.cut(0)
    windows.settle(0)
    assert not windows.force(6)
    assert windows.cleared == 6


def test_force_does_not_give_up_the_look_ahead_between_two_windows_in_flight() -> None:
    windows = fed("a" * 8)
    windows.cut(0)
    windows.append("b" * 8)
    windows.cut(1)
    windows.force(15)
    windows.settle(0)
    assert windows.cleared == 4
    windows.settle(1)
    assert windows.cleared == 15


def test_skipped_text_joins_the_prefix_without_a_check() -> None:
    windows = fed("a" * 8)
    windows.cut(0)
    windows.append("lost")
    assert windows.skip() == 4
    windows.append("lost")
    assert windows.skip() == 4
    windows.append("c" * 16)
    assert windows.cut(1)[1:] == ("c" * 16, "")
    windows.settle(1)
    windows.settle(0)
    assert windows.judged == 32
