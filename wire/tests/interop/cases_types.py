"""What clients say to each other in the bodies of messages: PROTOCOL.md, section 21."""

import protocol as p
from harness import case


def ref(seq: int) -> p.MessageRef:
    """A message of the same chat."""
    return p.MessageRef(seq=seq)


@case()
async def typed_messages_are_read_by_the_other_client(world):
    alice, bob = await world.alice_and_bob()
    bob_id = bob.device.user_id
    call = p.CallEvent(call_id=bytes(range(16)), outcome=p.CALL_OUTCOME_ANSWERED, duration_s=65, video=True)
    bodies = [
        b"plain",
        p.typed(text=p.Text(text="an answer"), reply_to=ref(1)),
        p.typed(media=p.Media(reference=b"there", media_type="image/jpeg", size=12, caption="a cat", digest=bytes(32))),
        p.typed(call_event=call),
        p.typed(system=p.System(kind=p.SYSTEM_KIND_NOTE, text="noted")),
        p.typed(reaction=p.Reaction(target=ref(1), emoji="\U0001f44d")),
        p.typed(edit=p.Edit(target=ref(2), text="another answer")),
        p.typed(delete=p.Delete(target=ref(3))),
        b"\0\2of a later version",
    ]
    for body in bodies:
        await alice.send(bob_id, body)
    came = [await bob.receive() for _ in bodies]
    assert [deliver.body for deliver in came] == bodies, came
    assert [p.text_of(deliver.body) for deliver in came] == ["plain", "an answer"] + 7 * [None]
    kinds = [p.MessageBody.FromString(body[2:]).WhichOneof("kind") for body in bodies[1:-1]]
    assert kinds == ["text", "media", "call_event", "system", "reaction", "edit", "delete"], kinds
    edit = p.MessageBody.FromString(came[6].body[2:]).edit
    assert came[edit.target.seq - 1].seq == 2 and edit.text == "another answer", edit
