//! The outcome as tables, engines as columns: writes, bytes, reads, starts.

use super::{Findings, Options, Row, rows::LOGICAL_BYTES};
use crate::report::{Percentiles, Table, figure, number};

/// Prints everything.
pub(crate) fn print(options: &Options, raw: &[Percentiles; 2], results: &[Findings]) {
    let shape = options.shape();
    println!(
        "{} messages of {LOGICAL_BYTES} logical bytes in {} chats (Zipf {}); one inbox entry for {} messages, trimmed \
         at {}: these ride along and are counted neither as rows nor as logical bytes. {} MiB of memory, compression \
         of peers: {:?}. Rates: medians over {} rounds of {} s.\n\
         Raw durable write of one batch of {}, before and after the loads: p50 {} and {} us, p99 {} and {} us.\n",
        options.messages(),
        shape.chats,
        shape.zipf,
        shape.inbox_every,
        shape.inbox_trim,
        options.memory_mib,
        options.compression,
        options.rounds(),
        options.seconds(),
        options.load_batch,
        cell(raw[0].p50_us),
        cell(raw[1].p50_us),
        cell(raw[0].p99_us),
        cell(raw[1].p99_us),
    );
    let mut head = vec!["what".to_owned()];
    head.extend(results.iter().map(|result| result.kind.to_string()));
    let mut table = Table::new(&head.iter().map(String::as_str).collect::<Vec<_>>());
    let mut row = |what: String, of: &dyn Fn(&Findings) -> Option<String>| {
        let cells = results.iter().map(|result| of(result).unwrap_or_else(|| "-".to_owned()));
        table.row([what].into_iter().chain(cells).collect());
    };
    for n in 0..results.first().map_or(0, |result| result.rates.len()) {
        let name = |Row { batch, sync }| match sync {
            true => format!("messages/s, a sync for each {batch}"),
            false => format!("messages/s, not synced, batches of {batch}"),
        };
        let what = results.first().map_or_else(String::new, |result| name(result.rates[n].0));
        row(what, &|result| result.rates.get(n).map(|(_, rate)| cell(rate.messages_per_s)));
    }
    let batch = options.load_batch;
    let load = |of: fn(&super::Load) -> String| move |result: &Findings| result.load.as_ref().map(of);
    row(format!("full load, a sync for each {batch}: messages/s"), &load(|load| cell(load.messages_per_s)));
    row(format!("commit of {batch} p50, us"), &load(|load| cell(load.commit.p50_us)));
    row(format!("commit of {batch} p99, us"), &load(|load| cell(load.commit.p99_us)));
    row(format!("commit of {batch} p99.9, us"), &load(|load| cell(load.commit.p999_us)));
    for (n, what) in ["nothing beside", "beside flushes and merges"].into_iter().enumerate() {
        row(format!("commit of {batch}, {what}: p99, us"), &|result| {
            Some(cell(result.load.as_ref()?.commit_by_background.as_ref()?[n].p99_us))
        });
    }
    row("longest stall, us".to_owned(), &load(|load| cell(load.commit.max_us)));
    row("bytes written per logical byte".to_owned(), &load(|load| per_logical(load.written_bytes, load.messages)));
    row("the same, settled".to_owned(), &load(|load| per_logical(load.written_settled_bytes, load.messages)));
    row("the same, by its own account".to_owned(), &|result| {
        let load = result.load.as_ref()?;
        Some(per_logical(load.counters.written_bytes?, load.messages))
    });
    row("seconds to settle".to_owned(), &load(|load| figure(Some(load.settle_s), 1)));
    row(
        "bytes on disk per logical byte, settled".to_owned(),
        &load(|load| per_logical(load.disk_bytes, load.messages)),
    );
    row(
        "the same without its log".to_owned(),
        &load(|load| per_logical(load.disk_bytes - load.log_bytes, load.messages)),
    );
    let bulk = |of: fn(&super::Bulk) -> Option<String>| move |result: &Findings| of(result.bulk.as_ref()?);
    row("loaded in bulk, settled: messages/s".to_owned(), &bulk(|bulk| Some(cell(bulk.messages_per_s))));
    let messages = options.messages();
    row("bytes written per logical byte, in bulk".to_owned(), &|result| {
        Some(per_logical(result.bulk.as_ref()?.written_bytes, messages))
    });
    row("the same, by its own account".to_owned(), &|result| {
        Some(per_logical(result.bulk.as_ref()?.counters.written_bytes?, messages))
    });
    row("resident memory at the most, load, MiB".to_owned(), &load(|load| mib(load.resident.peak_bytes)));
    row("open after a crash, ms".to_owned(), &|result| Some(cell(result.reopen.as_ref()?.open_ms)));
    type OfReads = fn(&super::Reads) -> Percentiles;
    let reads: [(&str, OfReads); 4] = [
        ("newest 50, cold, popular chats", |reads| reads.popular),
        ("newest 50, cold, any chat of 50", |reads| reads.uniform),
        ("raw read of 16 KiB in between", |reads| reads.floor),
        ("newest 50, warm", |reads| reads.warm),
    ];
    for (what, of) in reads {
        row(format!("{what}: p50, us"), &|result| Some(cell(of(result.reads.as_ref()?).p50_us)));
        row(format!("{what}: p99, us"), &|result| Some(cell(of(result.reads.as_ref()?).p99_us)));
    }
    row("resident memory at the most, reads, MiB".to_owned(), &|result| {
        Some(mib(result.reads.as_ref()?.resident.peak_bytes))
    });
    row("newest 50 between writes: p50, us".to_owned(), &|result| Some(cell(result.mixed.as_ref()?.read.p50_us)));
    row("newest 50 between writes: p99, us".to_owned(), &|result| Some(cell(result.mixed.as_ref()?.read.p99_us)));
    row("raw read in between: p99, us".to_owned(), &|result| Some(cell(result.mixed.as_ref()?.floor.p99_us)));
    row("commit between reads: p99, us".to_owned(), &|result| Some(cell(result.mixed.as_ref()?.commit.p99_us)));
    table.print();
}

fn cell(value: f64) -> String {
    figure(Some(value), 0)
}

fn per_logical(bytes: u64, messages: u64) -> String {
    figure(Some(number(bytes) / number(messages * LOGICAL_BYTES as u64)), 2)
}

fn mib(bytes: u64) -> String {
    (bytes >> 20).to_string()
}
