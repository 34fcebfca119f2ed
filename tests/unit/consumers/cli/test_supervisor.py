from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from consumers.cli.supervisor import Supervisor, exit_code, worker_environment, worker_name


def test_each_worker_has_a_name_and_a_port() -> None:
    assert [worker_name("fanout", index) for index in range(2)] == ["fanout-0", "fanout-1"]
    ports = [worker_environment({"A": "b"}, 8080, index)["OMS_WEBHOOKS_HTTP_PORT"] for index in range(3)]
    assert ports == ["8080", "8081", "8082"]
    assert worker_environment({"A": "b"}, 0, 2) == {"A": "b", "OMS_WEBHOOKS_HTTP_PORT": "0"}


@pytest.mark.parametrize(("returncode", "code"), [(0, 0), (1, 1), (-9, 137), (-15, 143)])
def test_exit_codes_are_those_of_a_shell(returncode: int, code: int) -> None:
    assert exit_code(returncode) == code


async def test_a_worker_that_has_just_exited_needs_no_signal() -> None:
    """Ctrl-C reaches workers, too. If one exited before its supervisor signalled it, that used to end in a traceback."""

    class Exited:
        def terminate(self) -> None:
            raise ProcessLookupError

    supervisor = Supervisor("fanout", 1, http_port=0, drain_seconds=1)
    waiting = asyncio.create_task(asyncio.sleep(0, result=130))
    supervisor._running[waiting], supervisor._names[waiting] = cast("Any", Exited()), "fanout-0"
    assert await supervisor._end_all() == [130]
