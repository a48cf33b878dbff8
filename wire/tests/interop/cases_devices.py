"""Several devices of a user: PROTOCOL.md, section 4, "Several devices"."""

import protocol as p
from client import Session
from harness import World, case, chat_of, ended, refused


async def link(world: World, by: Session, name: str, transport=None) -> Session:
    """A session of a new device of the user of `by`, after Synced."""
    device = p.Device(by.device.handle)
    new = await world.connect(transport)
    code = await new.begin_link(device, name)
    info = await by.request(p.GetLink(code=f"{code[:4]}-{code[4:]}".lower()), "link_info")
    assert (info.device_key, info.name, info.agent) == (device.public_key, name, "columba-interop/1"), info
    added = await by.request(p.ApproveLink(code=code, device_key=device.public_key), "device_added")
    linked = await new.linked(device)
    assert linked.device_id == added.device_id and linked.user_id == by.device.user_id, linked
    assert linked.handle == by.device.handle, linked
    await new.take("synced")
    return new


@case()
async def linked_devices_get_the_same(world):
    alice, bob = await world.alice_and_bob()
    laptop = await link(world, alice, "laptop", world.far)
    await bob.send(alice.device.user_id, b"to both")
    for session in (alice, laptop):
        assert (await session.receive()).body == b"to both"
    await laptop.send(bob.device.user_id, b"from the laptop")
    for session in (alice, bob):
        own = await session.receive()
        sender = (own.body, own.sender_user, own.sender_device)
        assert sender == (b"from the laptop", alice.device.user_id, 2), own
    await laptop.bye()
    await alice.send(bob.device.user_id, b"while it is away")
    again = await world.login(laptop.device)
    assert [deliver.body for deliver in await again.catch_up()] == [b"while it is away"]
    receipts = await again.request(p.GetReceipts(chat_id=chat_of(alice, bob)), "receipts")
    assert receipts.last_seq == 3, receipts


@case()
async def devices_listed_named_and_revoked(world):
    phone = await world.new_user("ada")
    laptop = await link(world, phone, "laptop", world.far)
    await phone.request(p.RenameDevice(device_id=1, name="phone"), "done")
    listed = await laptop.request(p.GetDevices(), "devices")
    found = [(device.device_id, device.device_key, device.name, device.online) for device in listed.devices]
    keys = [session.device.public_key for session in (phone, laptop)]
    assert found == [(1, keys[0], "phone", True), (2, keys[1], "laptop", True)], found
    assert listed.version == 2, listed
    for number in (0, 3):
        await refused("INVALID_ARGUMENT", phone.request(p.RevokeDevice(device_id=number), "done"))
    for _ in range(2):
        await phone.request(p.RevokeDevice(device_id=2), "done")
    await ended("REVOKED", laptop)
    await refused("UNAUTHENTICATED", world.login(laptop.device))
    await refused("INVALID_ARGUMENT", phone.request(p.RenameDevice(device_id=2, name="gone"), "done"))
    listed = await phone.request(p.GetDevices(), "devices")
    assert (len(listed.devices), listed.version) == (1, 3), listed


@case()
async def devices_of_another_are_told_by_their_keys(world):
    ada, bob = await world.new_user("ada"), await world.new_user("bob", world.far)
    await bob.request(p.SubscribePresence(user_ids=[ada.device.user_id]), "done")
    assert (await bob.take("presence")).devices_version == 1
    laptop = await link(world, ada, "laptop", world.far)
    assert (await bob.take("presence")).devices_version == 2
    listed = await bob.request(p.GetDevices(user_id=ada.device.user_id), "devices")
    keys = [session.device.public_key for session in (ada, laptop)]
    found = [(device.device_id, device.device_key, device.name, device.created_ms) for device in listed.devices]
    assert found == [(1, keys[0], "", 0), (2, keys[1], "", 0)], found
    await refused("UNKNOWN_USER", bob.request(p.GetDevices(user_id=bytes(16)), "devices"))


@case()
async def link_codes_are_good_once(world):
    ada, bea = await world.alice_and_bob()
    device = p.Device("")
    new = await world.connect(world.far)
    code = await new.begin_link(device, "")
    assert len(code) == 8 and not set(code) - set("0123456789ABCDEFGHJKMNPQRSTVWXYZ"), code
    await new.request(p.Ping(), "pong")
    approve = p.ApproveLink(code=code, device_key=device.public_key, name="tablet")
    other = p.ApproveLink(code=code, device_key=bea.device.public_key)
    await refused("LINK_UNKNOWN", ada.request(other, "device_added"))
    await refused("LINK_UNKNOWN", ada.request(p.GetLink(code="0000-0000"), "link_info"))
    first = await ada.request(approve, "device_added")
    await new.linked(device)
    assert await ada.request(approve, "device_added") == first, "a repetition has another answer"
    await refused("LINK_UNKNOWN", bea.request(approve, "device_added"))
    await refused("LINK_UNKNOWN", bea.request(p.GetLink(code=code), "link_info"))


@case()
async def a_user_has_eight_devices(world):
    ada = await world.new_user("ada")

    async def begin() -> tuple[Session, p.Device, p.ApproveLink]:
        device, new = p.Device(ada.device.handle), await world.connect()
        code = await new.begin_link(device, "one more")
        return new, device, p.ApproveLink(code=code, device_key=device.public_key)

    for _ in range(p.DEVICES_MAX - 1):
        new, device, approve = await begin()
        await ada.request(approve, "device_added")
        await new.linked(device)
    new, device, approve = await begin()
    await refused("TOO_MANY", ada.request(approve, "device_added"))
    await ada.request(p.RevokeDevice(device_id=2), "done")
    added = await ada.request(approve, "device_added")
    assert added.device_id == p.DEVICES_MAX + 1, added
    await new.linked(device)


@case()
async def who_waits_for_a_link_says_nothing_else(world):
    ada = await world.new_user("ada")
    new = await world.connect()
    await refused("INVALID_ARGUMENT", new.begin_link(p.Device(""), "x" * (p.DEVICE_NAME_BYTES_MAX + 1)))
    await new.begin_link(p.Device(""), "x" * p.DEVICE_NAME_BYTES_MAX)
    await new.ask(p.FindUser(handle=ada.device.handle))
    await ended("UNEXPECTED", new)
