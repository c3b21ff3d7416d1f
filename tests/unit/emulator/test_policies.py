"""Scaling policies: what they want, and which of them is followed."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.emulator.scaling.policies import (
    Bounds,
    Breach,
    Capacity,
    Cooldown,
    Proposal,
    Step,
    StepScaling,
    TargetTracking,
    choose,
    proposal,
)

WIDE = Bounds(minimum=0, maximum=1_000)
counts = st.integers(0, 50)
metrics = st.floats(0, 1_000, allow_nan=False)
capacities = st.builds(Capacity, desired=counts, in_service=counts)
cooldowns = st.none() | st.builds(Cooldown, out=st.booleans(), before=counts)
bounds = st.tuples(counts, counts, st.booleans(), st.booleans()).map(
    lambda b: Bounds(minimum=min(b[:2]), maximum=max(b[:2]), scale_in=b[2], scale_out=b[3])
)
trackings = st.builds(
    TargetTracking, target=st.floats(0.1, 100), scale_in=st.booleans(), out_cooldown=st.just(300.0)
)


@st.composite
def step_policies(draw):
    """Steps without gaps from minus to plus infinity."""
    inner = sorted(draw(st.lists(st.integers(-50, 50), max_size=3, unique=True)))
    edges = [-math.inf, *map(float, inner), math.inf]
    kind = draw(st.sampled_from(["ChangeInCapacity", "ExactCapacity", "PercentChangeInCapacity"]))
    low = 0 if kind == "ExactCapacity" else -120
    steps = [
        Step(adjustment=draw(st.integers(low, 120)), lower=lower, upper=upper)
        for lower, upper in itertools.pairwise(edges)
    ]
    return StepScaling(kind=kind, steps=steps, min_magnitude=draw(st.integers(0, 3)))


policies = trackings | step_policies()
breaches = st.builds(Breach, metric=metrics, threshold=st.floats(0, 100), low=st.booleans())


def tracked(metric, *, desired=1, in_service=None, low=False, target=5.0, **more):
    capacity = Capacity(desired=desired, in_service=desired if in_service is None else in_service)
    breach = Breach(metric=metric, threshold=target * 0.9 if low else target, low=low)
    return proposal(TargetTracking(target=target, **more), breach, capacity, WIDE)


class TestTargetTracking:
    @pytest.mark.parametrize(
        ("metric", "desired", "wanted"),
        [(15.0, 1, 3), (15.0, 2, 6), (5.1, 1, 2), (7.5, 2, 3), (12.0, 0, 3)],
    )
    def test_out_in_proportion(self, metric, desired, wanted):
        assert tracked(metric, desired=desired) == wanted

    @pytest.mark.parametrize(("metric", "desired", "wanted"), [(0.0, 4, 0), (1.0, 4, 1), (2.6, 4, 3)])
    def test_in_in_proportion(self, metric, desired, wanted):
        assert tracked(metric, desired=desired, low=True) == wanted

    def test_no_change_where_rounding_leaves_none(self):
        assert tracked(1.0, desired=1, low=True) is None

    def test_instances_that_start_are_not_counted_twice(self):
        # Fifteen requests for one instance in service; three shall be there and are starting.
        assert tracked(15.0, desired=3, in_service=1) is None
        assert tracked(25.0, desired=3, in_service=1) == 5

    def test_high_alarm_takes_nothing_away_and_low_alarm_adds_nothing(self):
        assert tracked(1.0, desired=4, in_service=1) is None
        assert tracked(40.0, desired=1, in_service=4, low=True) is None

    def test_disabled_scale_in(self):
        assert tracked(0.0, desired=4, low=True, scale_in=False) is None
        assert tracked(15.0, desired=1, scale_in=False) == 3

    def test_reading_a_configuration(self):
        full = {"TargetValue": 5, "DisableScaleIn": True, "ScaleInCooldown": 600, "ScaleOutCooldown": 0}
        assert TargetTracking.parse(full) == TargetTracking(
            target=5.0, scale_in=False, in_cooldown=600.0, out_cooldown=0.0
        )
        assert TargetTracking.parse({"TargetValue": 2.5}) == TargetTracking(
            target=2.5, scale_in=True, in_cooldown=300.0, out_cooldown=300.0
        )


def stepped(metric, *, desired, kind="ChangeInCapacity", threshold=60.0, magnitude=0, steps):
    config = {
        "AdjustmentType": kind,
        "MinAdjustmentMagnitude": magnitude,
        "StepAdjustments": [
            {
                "ScalingAdjustment": adjustment,
                **({} if lower is None else {"MetricIntervalLowerBound": lower}),
                **({} if upper is None else {"MetricIntervalUpperBound": upper}),
            }
            for adjustment, lower, upper in steps
        ],
    }
    capacity = Capacity(desired=desired, in_service=desired)
    return proposal(StepScaling.parse(config), Breach(metric=metric, threshold=threshold), capacity, WIDE)


class TestStepScaling:
    def test_the_policy_that_wakes_an_endpoint(self):
        steps = [(1, 0, None)]
        assert stepped(1.0, desired=0, threshold=1.0, steps=steps) == 1

    @pytest.mark.parametrize(
        ("metric", "wanted"),
        [(59.9, None), (60.0, None), (69.9, None), (70.0, 11), (79.9, 11), (80.0, 13), (500.0, 13)],
    )
    def test_above_the_threshold_the_lower_bound_belongs_to_the_step(self, metric, wanted):
        assert stepped(metric, desired=10, steps=[(0, 0, 10), (1, 10, 20), (3, 20, None)]) == wanted

    @pytest.mark.parametrize(
        ("metric", "wanted"), [(60.0, None), (50.1, None), (50.0, 9), (40.1, 9), (40.0, 7)]
    )
    def test_below_the_threshold_the_upper_bound_belongs_to_the_step(self, metric, wanted):
        assert stepped(metric, desired=10, steps=[(-1, -20, -10), (-3, None, -20)]) == wanted

    def test_exact_capacity(self):
        assert stepped(70.0, desired=2, kind="ExactCapacity", steps=[(4, 0, None)]) == 4
        assert stepped(70.0, desired=4, kind="ExactCapacity", steps=[(0, 0, None)]) == 0

    @pytest.mark.parametrize(
        ("percent", "desired", "magnitude", "wanted"),
        [
            (127, 10, 0, 22),  # 12.7 is rounded towards zero
            (-67, 10, 0, 4),
            (7, 10, 0, 11),  # less than one counts as one
            (-7, 10, 0, 9),
            (25, 4, 2, 6),
            (-25, 4, 2, 2),
            (50, 0, 0, None),
            (50, 0, 1, 1),
            (0, 4, 2, None),
            (-200, 4, 0, 0),
        ],
    )
    def test_percent(self, percent, desired, magnitude, wanted):
        steps = [(percent, 0, None)]
        kind = "PercentChangeInCapacity"
        assert stepped(70.0, desired=desired, kind=kind, magnitude=magnitude, steps=steps) == wanted

    def test_never_below_zero(self):
        assert stepped(70.0, desired=2, steps=[(-5, 0, None)]) == 0

    def test_cooldown(self):
        config = {"AdjustmentType": "ChangeInCapacity", "StepAdjustments": [{"ScalingAdjustment": 1}]}
        assert StepScaling.parse(config).out_cooldown == StepScaling.parse(config).in_cooldown == 300.0
        assert StepScaling.parse({**config, "Cooldown": 0}).out_cooldown == 0.0


class TestCooldowns:
    def plus(self, adjustment, *, desired, cooldown):
        policy = StepScaling(kind="ChangeInCapacity", steps=[Step(adjustment=adjustment)])
        capacity = Capacity(desired=desired, in_service=0)
        return proposal(policy, Breach(metric=1, threshold=1), capacity, WIDE, cooldown)

    def test_a_larger_scale_out_adds_what_goes_beyond_the_first(self):
        after_two = Cooldown(out=True, before=1)
        assert self.plus(2, desired=3, cooldown=after_two) is None
        assert self.plus(1, desired=3, cooldown=after_two) is None
        assert self.plus(3, desired=3, cooldown=after_two) == 4

    def test_a_scale_in_is_not_held_up_by_a_scale_out(self):
        assert self.plus(-1, desired=3, cooldown=Cooldown(out=True, before=1)) == 2

    def test_after_a_scale_in_there_is_no_other_one_but_a_scale_out(self):
        after_one = Cooldown(out=False, before=4)
        assert self.plus(-1, desired=3, cooldown=after_one) is None
        assert self.plus(1, desired=3, cooldown=after_one) == 4

    def test_target_tracking_goes_on_to_a_larger_backlog(self):
        policy, capacity = TargetTracking(target=5), Capacity(desired=3, in_service=0)
        cooldown = Cooldown(out=True, before=0)
        assert proposal(policy, Breach(metric=15, threshold=5), capacity, WIDE, cooldown) is None
        assert proposal(policy, Breach(metric=16, threshold=5), capacity, WIDE, cooldown) == 4


class TestBounds:
    def test_reading_a_target(self):
        assert Bounds.parse(1, 4, {"DynamicScalingInSuspended": True}) == Bounds(
            minimum=1, maximum=4, scale_in=False, scale_out=True
        )
        assert Bounds.parse(None, None) == Bounds(minimum=0, maximum=0)

    def test_suspended(self):
        out, back = Breach(metric=50, threshold=5), Breach(metric=0, threshold=4.5, low=True)
        policy, capacity = TargetTracking(target=5), Capacity(desired=2, in_service=2)
        still = Bounds(minimum=0, maximum=9, scale_in=False, scale_out=False)
        assert proposal(policy, out, capacity, still) is None
        assert proposal(policy, back, capacity, still) is None

    def test_limits(self):
        policy, capacity = TargetTracking(target=5), Capacity(desired=2, in_service=2)
        limits = Bounds(minimum=1, maximum=3)
        assert proposal(policy, Breach(metric=50, threshold=5), capacity, limits) == 3
        assert proposal(policy, Breach(metric=0, threshold=4.5, low=True), capacity, limits) == 1


def wish(count, tracking=True):
    return Proposal(policy=f"p{count}", count=count, cause="", tracking=tracking)


class TestChoice:
    def test_the_largest_wins(self):
        assert choose([wish(3), wish(5), wish(1)], 2) == wish(5)
        assert choose([wish(3), wish(1)], 4) == wish(3)

    def test_nothing_to_choose(self):
        assert choose([], 2) is None
        assert choose([wish(2)], 2) is None

    def test_target_tracking_scales_in_only_together(self):
        assert choose([wish(1)], 2, holding=True) is None
        assert choose([wish(1), wish(0, tracking=False)], 2, holding=True) == wish(0, tracking=False)
        assert choose([wish(3)], 2, holding=True) == wish(3)


@given(policies, breaches, capacities, bounds, cooldowns)
def test_bounds_are_kept_and_a_proposal_is_a_change(policy, breach, capacity, limits, cooldown):
    count = proposal(policy, breach, capacity, limits, cooldown)
    if count is not None:
        assert limits.minimum <= count <= limits.maximum
        assert count != capacity.desired
        assert limits.scale_out if count > capacity.desired else limits.scale_in


@given(trackings, metrics, metrics, capacities, bounds, st.booleans())
def test_a_larger_metric_never_means_fewer_instances(policy, one, other, capacity, limits, low):
    smaller, larger = sorted([one, other])

    def after(metric):
        count = proposal(policy, Breach(metric=metric, threshold=policy.target, low=low), capacity, limits)
        return capacity.desired if count is None else count

    assert after(smaller) <= after(larger)


@given(st.floats(0.1, 100), st.floats(1.01, 50), counts, st.integers(1, 50))
def test_following_a_scale_out_again_changes_nothing(target, times, in_service, room):
    policy, breach = TargetTracking(target=target), Breach(metric=target * times, threshold=target)
    limits = Bounds(minimum=0, maximum=in_service + room)
    count = proposal(policy, breach, Capacity(desired=in_service, in_service=in_service), limits)
    assert count is not None
    # The new instances are still starting, so the metric is what it was.
    assert proposal(policy, breach, Capacity(desired=count, in_service=in_service), limits) is None


@given(step_policies(), breaches, counts, counts, counts)
def test_a_cooling_policy_adds_no_more_than_it_would_have_from_the_start(
    policy, breach, first, more, running
):
    capacity = Capacity(desired=first + more, in_service=running)
    cooling = proposal(policy, breach, capacity, WIDE, Cooldown(out=True, before=first))
    if cooling is not None and cooling > capacity.desired:
        assert cooling == proposal(policy, breach, Capacity(desired=first, in_service=running), WIDE)


@given(
    st.lists(st.builds(Proposal, policy=st.text(), count=counts, cause=st.just(""), tracking=st.booleans())),
    counts,
)
def test_the_choice_is_the_largest_change(proposals, desired):
    chosen = choose(proposals, desired)
    changes = [one.count for one in proposals if one.count != desired]
    assert (None if chosen is None else chosen.count) == max(changes, default=None)
