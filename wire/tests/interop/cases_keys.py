"""The key directory: PROTOCOL.md, section 18."""

import asyncio

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import protocol as p
from harness import case, refused


def check(bundle, of: p.Device) -> int | None:
    """Checks a bundle's signatures. The id of its one-time key; None where it is the fallback."""
    assert bundle.device_key == of.public_key, "another device key"
    device = Ed25519PublicKey.from_public_bytes(bundle.device_key)
    identity = p.identity_key_bytes(of.user_id, bundle.device_id, bundle.identity_key)
    device.verify(bundle.identity_signature, identity)
    key, kind = bundle.pre_key, "one-time" if bundle.one_time else "fallback"
    device.verify(key.signature, p.pre_key_bytes(kind, of.user_id, bundle.device_id, key.id, key.key))
    return key.id if bundle.one_time else None


@case()
async def keys_come_once_and_then_the_fallback(world):
    alice, bob = await world.alice_and_bob()
    assert bob.welcome.one_time_keys == 0
    stored = await bob.request(bob.device.put_keys(1, range(1, 23)), "keys_stored")
    assert stored.one_time_keys == 22, stored
    get = p.GetKeys(user_id=bob.device.user_id)
    answers = await asyncio.gather(*[alice.request(get, "keys") for _ in range(24)])
    assert all(answer.user_id == bob.device.user_id and len(answer.bundles) == 1 for answer in answers)
    taken = [check(answer.bundles[0], bob.device) for answer in answers]
    assert sorted(key for key in taken if key) == list(range(1, 23)), taken
    assert taken.count(None) == 2, taken
    low = [(await bob.take("keys_low")).one_time_keys for _ in range(p.KEYS_LOW_AT)]
    assert low == list(range(p.KEYS_LOW_AT - 1, -1, -1)), low
    bob = await world.login(bob.device)
    assert bob.welcome.one_time_keys == 0


@case()
async def an_upload_may_be_repeated_and_brings_nothing_back(world):
    alice, bob = await world.alice_and_bob()
    upload = bob.device.put_keys(1, range(1, 6))
    await bob.request(upload, "keys_stored")
    get = p.GetKeys(user_id=bob.device.user_id, device_ids=[bob.device.device_id, 99])
    first = (await alice.request(get, "keys")).bundles
    assert [check(bundle, bob.device) for bundle in first] == [1], first
    assert (await bob.request(upload, "keys_stored")).one_time_keys == 4
    # More one-time keys alone; what is left out stays.
    more = p.PutKeys(one_time=[bob.device.pre_key("one-time", 6)])
    assert (await bob.request(more, "keys_stored")).one_time_keys == 5
    second = (await alice.request(get, "keys")).bundles
    assert second[0].identity_key == first[0].identity_key and second[0].pre_key.id == 2, second


@case()
async def what_is_not_signed_or_too_much_is_refused_whole(world):
    alice, bob = await world.alice_and_bob()
    good = bob.device.put_keys(1, range(1, 4))
    bad = p.PutKeys.FromString(good.SerializeToString())
    bad.one_time[2].signature = good.one_time[1].signature
    await refused("INVALID_ARGUMENT", bob.request(bad, "keys_stored"))
    await refused("INVALID_ARGUMENT", bob.request(alice.device.put_keys(1, range(1, 4)), "keys_stored"))
    await refused("INVALID_ARGUMENT", bob.request(p.PutKeys(one_time=good.one_time), "keys_stored"))
    many = bob.device.put_keys(1, range(1, p.ONE_TIME_KEYS_MAX + 2))
    await refused("INVALID_ARGUMENT", bob.request(many, "keys_stored"))
    get = p.GetKeys(user_id=bob.device.user_id)
    assert not (await alice.request(get, "keys")).bundles, "nothing was stored"
    await refused("UNKNOWN_USER", alice.request(p.GetKeys(user_id=bytes(16)), "keys"))
