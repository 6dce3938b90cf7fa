from node.live.pace import Pace, PaceLimits

LIMITS = PaceLimits(per_s=10, burst=5, patience_s=1)


def test_a_burst_passes_and_then_messages_pass_at_the_rate():
    pace = Pace(LIMITS, now_s=0)
    assert [pace.take(0, now_s=0) for _ in range(5)] == [0] * 5
    assert pace.take(0, now_s=0) == 0.1
    assert not pace.is_flood


def test_a_long_message_counts_as_several():
    pace = Pace(LIMITS, now_s=0)
    assert pace.take(4096 * 14, now_s=0) == 1.0


def test_whoever_is_held_up_without_falling_silent_floods():
    pace = Pace(LIMITS, now_s=0)
    now_s = 0.0
    for _ in range(16):
        now_s += pace.take(0, now_s=now_s)
    assert pace.is_flood


def test_silence_makes_good():
    pace = Pace(LIMITS, now_s=0)
    now_s = 0.0
    for _ in range(13):
        now_s += pace.take(0, now_s=now_s)
    now_s += 1
    for _ in range(13):
        now_s += pace.take(0, now_s=now_s)
    assert not pace.is_flood
