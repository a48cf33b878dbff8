//! The tables of `columba-bench deliver`: medians over runs, with the floors beside them.

use super::{BATCH_BYTES, Compared, Options, Run};
use crate::{
    load::{BODY_BYTES, latency::LatencyResult, throughput::ThroughputResult},
    raw::BLOCK_BYTES,
    report::{Table, figure, number, ratio},
};

/// Prints the tables.
pub(super) fn print(options: &Options, medians: &[Run]) {
    println!(
        "Medians over {} runs of {} s, {BODY_BYTES}-byte messages; microseconds where nothing else is said.\n\
         Columba: durable on disk before `sent` and before delivery. Ratios: Columba to the floor of the same run.",
        options.run.runs, options.seconds
    );
    print_disk(options, medians);
    print_latency(options, medians);
    print_throughput(options, medians);
}

fn print_disk(options: &Options, medians: &[Run]) {
    println!("\nRaw durable write (O_DIRECT, one RWF_DSYNC write into a zeroed file)\n");
    let mut table = Table::new(&["in the run of", "write", "p50", "p90", "p99", "p99.9"]);
    for run in medians {
        let paced = format!("{} KiB at {}/s", BLOCK_BYTES / 1024, options.rate);
        let burst = |bytes| format!("{} KiB back to back", bytes / 1024);
        for (what, percentiles) in [
            (paced, &run.write_paced),
            (burst(BLOCK_BYTES), &run.write_burst),
            (burst(BATCH_BYTES), &run.write_batch_burst),
        ] {
            let figures = [percentiles.p50_us, percentiles.p90_us, percentiles.p99_us, percentiles.p999_us];
            let mut row = vec![run.transport.name().to_owned(), what];
            row.extend(figures.map(|value| figure(Some(value), 0)));
            table.row(row);
        }
    }
    table.print();
}

fn print_latency(options: &Options, medians: &[Run]) {
    type Pick = fn(&LatencyResult) -> f64;
    const ROWS: [(&str, Pick); 9] = [
        ("send to deliver p50", |result| result.deliver.p50_us),
        ("send to deliver p90", |result| result.deliver.p90_us),
        ("send to deliver p99", |result| result.deliver.p99_us),
        ("send to deliver p99.9", |result| result.deliver.p999_us),
        ("send to deliver max", |result| result.deliver.max_us),
        ("the same from the write, p50", |result| result.deliver_from_write.p50_us),
        ("send to sent p50", |result| result.sent.p50_us),
        ("send to sent p99", |result| result.sent.p99_us),
        ("the load's own lateness p50", |result| result.lateness.p50_us),
    ];
    if medians.iter().all(|run| run.latency.is_none()) {
        return;
    }
    println!("\nLatency, one pair, {}/s, open loop, from the intended time of the send\n", options.rate);
    let mut table = Table::new(&[
        "transport",
        "what",
        "Columba",
        "echo (not durable)",
        "echo + write (sum)",
        "echo + write (one)",
        "ratio to sum",
        "ratio to one",
    ]);
    for run in medians {
        let Some(Compared { columba, echo, echo_write }) = &run.latency else { continue };
        for (what, pick) in ROWS {
            let value = columba.as_ref().map(pick);
            // A sum of medians is nearly a median; a sum of other percentiles is nothing.
            let sum = if what.ends_with("p50") && !what.contains("lateness") {
                Some(pick(echo) + run.write_paced.p50_us)
            } else {
                None
            };
            table.row(vec![
                run.transport.name().to_owned(),
                what.to_owned(),
                figure(value, 0),
                figure(Some(pick(echo)), 0),
                figure(sum, 0),
                figure(Some(pick(echo_write)), 0),
                ratio(value, sum.unwrap_or_default()),
                ratio(value, pick(echo_write)),
            ]);
        }
    }
    table.print();
}

fn print_throughput(options: &Options, medians: &[Run]) {
    /// What is in a row, how it is picked, digits, and whether the floors have it too.
    type Row = (&'static str, fn(&ThroughputResult) -> f64, usize, bool);
    const ROWS: [Row; 10] = [
        ("delivered/s", |result| result.delivered_per_second, 0, true),
        ("server CPU us/message", |result| result.server.cpu_us, 2, true),
        ("load CPU us/message", |result| result.load_cpu_us, 2, true),
        ("frame bytes/message", |result| result.wire.frames(), 0, true),
        ("send to deliver p50", |result| result.deliver.p50_us, 0, true),
        ("send to deliver p99", |result| result.deliver.p99_us, 0, true),
        ("journal writes/message", |result| result.server.journal_writes, 4, false),
        ("journal bytes/message", |result| result.server.journal_bytes, 0, false),
        ("inbox appends/message", |result| result.server.inbox_appends, 4, false),
        ("repeated deliveries", |result| number(result.repeated), 0, false),
    ];
    if medians.iter().all(|run| run.throughput.is_none()) {
        return;
    }
    println!(
        "\nThroughput, {} pairs, {} unanswered sends each, {}\n",
        options.pairs,
        options.outstanding,
        if options.both_ways { "both of a pair sending" } else { "one of each pair sending" }
    );
    let mut table = Table::new(&[
        "transport",
        "what",
        "Columba",
        "echo (not durable)",
        "echo + write (one)",
        "ratio to echo + write",
    ]);
    for run in medians {
        let Some(Compared { columba, echo, echo_write }) = &run.throughput else { continue };
        for (what, pick, digits, is_shared) in ROWS {
            let value = columba.as_ref().map(pick);
            let floor = |result| if is_shared { Some(pick(result)) } else { None };
            table.row(vec![
                run.transport.name().to_owned(),
                what.to_owned(),
                figure(value, digits),
                figure(floor(echo), digits),
                figure(floor(echo_write), digits),
                ratio(value, floor(echo_write).unwrap_or_default()),
            ]);
        }
    }
    table.print();
}
