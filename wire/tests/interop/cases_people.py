"""Finding users, profiles and presence: PROTOCOL.md, section 10."""

import asyncio
import time

import protocol as p
from client import PATIENCE, Closed, Session, WireError
from harness import case, ended, refused


@case()
async def find_user(world):
    alice, bob = await world.alice_and_bob()
    handle = bob.device.handle
    found = await alice.request(p.FindUser(handle=handle), "user_found")
    assert (found.user_id, found.handle) == (bob.device.user_id, handle), found
    await refused("UNKNOWN_USER", alice.request(p.FindUser(handle="nobody-here"), "user_found"))


@case()
async def profiles(world):
    alice, bob = await world.alice_and_bob()
    get = p.GetUser(user_id=alice.device.user_id)
    blank = await bob.request(get, "user")
    assert (blank.handle, blank.profile_version) == (alice.device.handle, 0), blank
    await alice.request(p.SetProfile(name="Alice".encode(), about=b"here"), "done")
    await alice.request(p.SetProfile(about=b""), "done")
    user, account = await bob.request(get, "user"), await alice.request(p.GetAccount(), "account")
    assert (user.profile.name, user.profile.about, user.profile_version) == (b"Alice", b"", 2), user
    assert (account.profile, account.profile_version) == (user.profile, 2), account
    assert account.user_id == user.user_id == alice.device.user_id and account.handle == user.handle
    long = p.SetProfile(picture=bytes(p.PROFILE_FIELD_BYTES_MAX + 1))
    await refused("INVALID_ARGUMENT", alice.request(long, "done"))
    await refused("UNKNOWN_USER", alice.request(p.GetUser(user_id=bytes(16)), "user"))


@case()
async def send_to_an_unknown_user(world):
    alice = await world.new_user("alice")
    await refused("UNKNOWN_USER", alice.send(bytes(16), b"anyone?"))


@case()
async def presence(world):
    alice, bob = await world.alice_and_bob()
    user, nobody = bob.device.user_id, bytes(16)
    await alice.request(p.SubscribePresence(user_ids=[user, nobody]), "done")
    states = [await alice.take("presence") for _ in range(2)]
    assert {(state.user_id, state.online) for state in states} == {(user, True), (nobody, False)}, states
    assert all(state.online or state.last_seen_ms == 0 for state in states), states
    for end in (Session.bye, Session.close):
        left = time.time() * 1000
        await end(bob)
        state = await alice.take("presence", lambda state: not state.online)
        assert state.user_id == user and abs(state.last_seen_ms - left) < 5000, state
        bob = await world.login(bob.device, world.far)
        await alice.take("presence", lambda state: state.user_id == user and state.online)


@case()
async def presence_of_who_is_offline(world):
    alice, bob = await world.alice_and_bob()
    user = bob.device.user_id
    await bob.bye()
    await alice.request(p.SubscribePresence(user_ids=[user]), "done")
    state = await alice.take("presence")
    assert not state.online and abs(state.last_seen_ms - time.time() * 1000) < 5000, state
    # No subscriptions any more: the change is not told.
    await alice.request(p.SubscribePresence(), "done")
    bob = await world.login(bob.device)
    await bob.send(alice.device.user_id, b"here")
    assert (await alice.receive()).body == b"here"
    assert not [message for kind, message in alice.inbox if kind == "presence"], alice.inbox


@case()
async def a_block_stops_both_and_hides_presence(world):
    alice, bob = await world.alice_and_bob()
    alice_id, bob_id = alice.device.user_id, bob.device.user_id
    await bob.send(alice_id, b"before")
    await alice.request(p.SetBlocked(user_id=bob_id, blocked=True), "done")
    await refused("NOT_ALLOWED", bob.send(alice_id, b"hello?"))
    await refused("NOT_ALLOWED", alice.send(bob_id, b"no"))
    await refused("INVALID_ARGUMENT", alice.request(p.SetBlocked(user_id=alice_id, blocked=True), "done"))
    await refused("UNKNOWN_USER", alice.request(p.SetBlocked(user_id=bytes(16), blocked=True), "done"))
    assert (await alice.receive()).body == b"before", "what was stored is delivered"
    await bob.request(p.SubscribePresence(user_ids=[alice_id]), "done")
    state = await bob.take("presence")
    assert (state.online, state.last_seen_ms) == (False, 0), state
    await alice.request(p.SetBlocked(user_id=bob_id, blocked=False), "done")
    await bob.take("presence", lambda state: state.online)
    await bob.send(alice_id, b"again")
    assert (await alice.receive()).body == b"again"


@case()
async def contacts_and_privacy(world):
    alice, bob = await world.alice_and_bob()
    carol = await world.new_user("carol")
    alice_id, bob_id = alice.device.user_id, bob.device.user_id
    await alice.request(p.SetContacts(add=[bob_id, bob_id], remove=[bob_id]), "done")
    await alice.request(p.SetBlocked(user_id=carol.device.user_id, blocked=True), "done")
    await alice.request(p.SetPrivacy(online=p.AUDIENCE_CONTACTS, read_receipts_off=True), "done")
    lists = await alice.request(p.GetContacts(), "contacts")
    assert (list(lists.contacts), list(lists.blocked)) == ([bob_id], [carol.device.user_id]), lists
    account = await alice.request(p.GetAccount(), "account")
    assert account.roster_version == lists.roster_version == 3, account
    assert account.privacy.online == p.AUDIENCE_CONTACTS and account.privacy.read_receipts_off, account
    too_many = p.SetContacts(add=[n.to_bytes(16, "big") for n in range(1, p.CONTACTS_MAX + 1)])
    await refused("TOO_MANY", alice.request(too_many, "done"))
    await refused("INVALID_ARGUMENT", alice.request(p.SetPrivacy(groups=9), "done"))
    # A contact sees her; and what she reads she alone is told.
    await bob.request(p.SubscribePresence(user_ids=[alice_id]), "done")
    assert (await bob.take("presence")).online
    sent = await bob.send(alice_id, b"read me")
    await alice.receive()
    await alice.request(p.Read(chat_id=sent.chat_id, seq=sent.seq), "done")
    own = await alice.take("receipt", lambda receipt: receipt.user_id == alice_id)
    assert own.read_seq == sent.seq, own
    for who, read in ((alice, sent.seq), (bob, 0)):
        answer = await who.request(p.GetReceipts(chat_id=sent.chat_id), "receipts")
        assert {member.read_seq for member in answer.members if member.user_id == alice_id} == {read}, answer


@case()
async def an_account_is_deleted(world):
    alice, bob = await world.alice_and_bob()
    alice_id, handle = alice.device.user_id, alice.device.handle
    await alice.send(bob.device.user_id, b"good bye")
    assert (await bob.receive()).body == b"good bye"
    await refused("INVALID_ARGUMENT", alice.request(p.DeleteAccount(handle="nobody-here"), "done"))
    try:
        await alice.request(p.DeleteAccount(handle=handle), "done")
    except Closed:
        pass
    await ended("REVOKED", alice)
    await refused("UNAUTHENTICATED", world.login(alice.device))
    await refused("UNKNOWN_USER", bob.request(p.GetUser(user_id=alice_id), "user"))
    # The rest follows within moments.
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await bob.send(alice_id, b"are you there?")
            except WireError as error:
                if error.code == p.CODES["UNKNOWN_USER"]:
                    break
                assert error.code == p.CODES["UNAVAILABLE"], error
            await asyncio.sleep(0.05)
