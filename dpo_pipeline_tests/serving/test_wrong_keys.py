"""How many wrong keys an address may send; with a real server: `test_identity`."""

import pytest

from dpo_pipeline.request_errors import TooManyWrongKeys
from dpo_pipeline.serving.callers import network_of
from dpo_pipeline.serving.wrong_keys import WrongKeys


def test_wrong_keys_are_counted_for_a_minute_and_by_network() -> None:
    now = 0.0
    wrong = WrongKeys(clock=lambda: now)
    network = network_of("2001:db8::1")
    assert network == network_of("2001:db8::ffff:1") and network_of("fe80::1%eth0") == "fe80::/64"
    for _ in range(30):
        wrong.count(network, same_as="what a client always sends")
    assert [wrong.count(network) for _ in range(19)] == [False] * 18 + [True]
    now = 59.5
    with pytest.raises(TooManyWrongKeys) as told:
        wrong.check(network)
    assert told.value.retry_after_s == 1
    wrong.check(network_of("2001:db8:1::1"))
    now = 60.0
    wrong.check(network)
