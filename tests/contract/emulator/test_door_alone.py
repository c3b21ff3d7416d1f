"""Front doors that one test has for itself, because of their clock or their seed."""

from __future__ import annotations

import threading

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from airflow_async_sm.emulator.clock import SteppedClock
from airflow_async_sm.emulator.settings.board import FaultBoard
from airflow_async_sm.emulator.settings.faults import ServiceFailed, SlowAnswer
from tests.door import Door
from tests.world import eventually


class TestSlowAnswer:
    def test_answer_comes_when_the_clock_says_so(self):
        clock = SteppedClock()
        with Door(clock=clock) as door:
            door.board.add(SlowAnswer(seconds=60.0, operation="GetCallerIdentity"))
            answers = []
            caller = threading.Thread(
                target=lambda: answers.append(door.client("sts").get_caller_identity()["Account"])
            )
            caller.start()
            eventually(lambda: door.board.hits()["fault-1"] == 1)
            door.client("sns").list_topics()
            clock.advance(59)
            caller.join(0.2)
            assert not answers
            eventually(lambda: clock.advance(1) or answers)
            caller.join(10)
            assert answers == ["123456789012"]

    def test_emulator_that_stops_does_not_wait_for_it(self):
        with Door() as door:
            door.board.add(SlowAnswer(seconds=3600.0))
            client = door.client("sts")
            caller = threading.Thread(target=client.get_caller_identity)
            caller.start()
            eventually(lambda: door.board.hits()["fault-1"] == 1)
            door.application.close()
            caller.join(10)
            assert not caller.is_alive()


def test_rate_hits_the_same_calls_whatever_the_order():
    """Which calls a rate hits is a matter of their number within the operation."""

    def outcomes(door, clients):
        found = []
        for client in clients:
            try:
                client.list_topics()
            except ClientError:
                found.append(False)
            else:
                found.append(True)
        return found

    results = []
    for others in (0, 3):
        board = FaultBoard([ServiceFailed(rate=0.5, operation="ListTopics")], seed=7)
        with Door(board=board) as door:
            sns = boto3.Session("a", "b", region_name="us-east-1").client(
                "sns", endpoint_url=door.url, config=Config(retries={"total_max_attempts": 1}, proxies={})
            )
            for _ in range(others):
                door.client("sts").get_caller_identity()
            results.append(outcomes(door, [sns] * 20))
            sns.close()
    assert results[0] == results[1]
    assert 3 < sum(results[0]) < 17
