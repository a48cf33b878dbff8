//! A checker that was never seen to fail proves nothing: each planted bug is caught by one.

use std::panic::catch_unwind;

use columba_engine::planted::{Planted, plant};
use columba_sim::{crash, run};

/// Seeds that a bug may take to show.
const SEEDS: u64 = 200;

/// How a bug shows: in a crash point of the script, or in a seed; `None` where it does not.
fn caught(bug: Planted) -> Option<String> {
    // The bug lives in this thread; an assertion of the code itself that meets it is as good as a checker.
    plant(Some(bug));
    let found = catch_unwind(|| {
        if let Some(broken) = crash::operations().err() {
            return Some(format!("the script without a crash: {}", broken[0]));
        }
        let seed = (0..SEEDS).find_map(|seed| run::run(seed, false).err());
        seed.map(|failure| format!("seed {}: {}", failure.seed, failure.broken[0]))
    });
    plant(None);
    found.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Some(format!("an assertion: {}", text.unwrap_or("without a text")))
    })
}

fn must_be_caught(bug: Planted) {
    let how = caught(bug).unwrap_or_else(|| panic!("{bug:?} is not caught within {SEEDS} seeds"));
    println!("{bug:?}: {how}");
}

#[test]
fn an_answer_before_the_write_is_durable_is_caught() {
    must_be_caught(Planted::AcknowledgeBeforeDurable);
}

#[test]
fn an_entry_that_is_applied_twice_is_caught() {
    must_be_caught(Planted::ApplyTwice);
}

#[test]
fn an_inbox_that_is_trimmed_too_far_is_caught() {
    must_be_caught(Planted::TrimTooFar);
}

#[test]
fn a_seq_that_is_given_twice_is_caught() {
    must_be_caught(Planted::SeqReused);
}

#[test]
fn a_revoked_device_that_may_come_back_is_caught() {
    must_be_caught(Planted::RevokedStays);
}

#[test]
fn a_member_who_gets_no_inbox_entry_is_caught() {
    must_be_caught(Planted::InboxSkipped);
}

#[test]
fn a_retry_that_is_stored_again_is_caught() {
    must_be_caught(Planted::DuplicateStored);
}

#[test]
fn a_one_time_key_that_is_given_twice_is_caught() {
    must_be_caught(Planted::KeyTwice);
}

#[test]
fn a_member_who_is_skipped_because_it_came_during_the_fan_out_is_caught() {
    must_be_caught(Planted::NewcomerSkipped);
}

#[test]
fn a_message_that_is_delivered_to_who_was_removed_is_caught() {
    must_be_caught(Planted::DeliversToRemoved);
}

#[test]
fn a_read_watermark_that_is_lost_is_caught() {
    must_be_caught(Planted::ReadLost);
}

#[test]
fn a_block_that_is_ignored_is_caught() {
    must_be_caught(Planted::BlockIgnored);
}

#[test]
fn a_link_that_lets_somebody_in_after_its_end_is_caught() {
    must_be_caught(Planted::EndedInvite);
}

#[test]
fn what_counts_as_had_while_a_device_has_it_to_come_is_caught() {
    must_be_caught(Planted::SettledEarly);
}

#[test]
fn what_never_counts_as_had_is_caught() {
    must_be_caught(Planted::NeverSettled);
}

#[test]
fn a_chat_that_is_not_noted_with_its_user_is_caught() {
    must_be_caught(Planted::ChatNotNoted);
}

#[test]
fn a_chat_that_takes_in_who_is_deleted_and_keeps_it_is_caught() {
    must_be_caught(Planted::OrphanStays);
}

#[test]
fn what_is_pushed_past_the_inbox_is_caught() {
    must_be_caught(Planted::PushedPastInbox);
}

#[test]
fn without_a_bug_nothing_is_caught() {
    plant(None);
    for seed in 0..20 {
        run::run(seed, false).unwrap();
    }
}
