//! Counters of a core, and how they are shown to Prometheus.
//!
//! One [`CoreMetrics`] per core. Each value has one writer, the core's thread, and any number of readers; nothing is
//! ordered by them, so every access is relaxed and a write is a plain load and store.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::{fmt::Write as _, sync::Arc};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. For the one writer only.
    pub fn add(&self, n: u64) {
        // One writer: a load and a store, not a locked read-modify-write.
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Takes over a total counted elsewhere.
    pub fn set(&self, total: u64) {
        self.0.store(total, Relaxed);
    }

    /// The total.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Upper bounds of a histogram's buckets, microseconds: 1-2-5, closer where a durable write usually lies.
pub const BUCKETS_US: [u64; 20] = [
    20, 50, 75, 100, 150, 200, 300, 500, 750, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 5_000_000,
];

/// How long something took, in buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; BUCKETS_US.len()],
    count: Counter,
    sum: Counter,
}

impl Histogram {
    /// Counts a duration, microseconds. For the one writer only.
    pub fn record(&self, micros: u64) {
        let index = BUCKETS_US.partition_point(|bound| *bound < micros);
        if let Some(bucket) = self.buckets.get(index) {
            bucket.add(1);
        }
        self.count.add(1);
        self.sum.add(micros);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.count.get()
    }
}

/// Something that [`render`] can show.
trait Metric {
    const TYPE: &'static str;
    fn render(&self, name: &str, core: usize, out: &mut String);
}

fn line(out: &mut String, name: &str, suffix: &str, core: usize, labels: &str, value: u64) {
    writeln!(out, "{name}{suffix}{{core=\"{core}\"{labels}}} {value}").expect("a string takes everything");
}

impl Metric for Counter {
    const TYPE: &'static str = "counter";

    fn render(&self, name: &str, core: usize, out: &mut String) {
        line(out, name, "", core, "", self.get());
    }
}

impl Metric for Gauge {
    const TYPE: &'static str = "gauge";

    fn render(&self, name: &str, core: usize, out: &mut String) {
        line(out, name, "", core, "", self.get());
    }
}

impl Metric for Histogram {
    const TYPE: &'static str = "histogram";

    fn render(&self, name: &str, core: usize, out: &mut String) {
        let mut below = 0;
        for (bound, bucket) in BUCKETS_US.iter().zip(&self.buckets) {
            below += bucket.get();
            line(out, name, "_bucket", core, &format!(",le=\"{bound}\""), below);
        }
        line(out, name, "_bucket", core, ",le=\"+Inf\"", self.count.get());
        line(out, name, "_sum", core, "", self.sum.get());
        line(out, name, "_count", core, "", self.count.get());
    }
}

macro_rules! core_metrics {
    ($($(#[doc = $help:literal])+ $name:ident: $kind:ident,)+) => {
        /// Everything that a core counts.
        #[derive(Debug, Default)]
        pub struct CoreMetrics {
            $($(#[doc = $help])+ pub $name: $kind,)+
        }

        /// The metrics of all cores as Prometheus text, each line with the label `core`.
        pub fn render(cores: &[Arc<CoreMetrics>]) -> String {
            let mut out = String::with_capacity(8 * 1024);
            $(
                let name = concat!("columba_", stringify!($name));
                writeln!(out, "# HELP {name}{}", concat!($($help),+)).expect("a string takes everything");
                writeln!(out, "# TYPE {name} {}", <$kind as Metric>::TYPE).expect("a string takes everything");
                for (core, metrics) in cores.iter().enumerate() {
                    metrics.$name.render(name, core, &mut out);
                }
            )+
            out
        }
    };
}

core_metrics! {
    /// Sessions, logged in or not.
    sessions_open: Gauge,
    /// Sends received.
    sends_total: Counter,
    /// Sends answered with Sent: durable and applied.
    sent_total: Counter,
    /// Of these, repeats that were recognised.
    duplicates_total: Counter,
    /// Messages pushed to live sessions.
    delivers_total: Counter,
    /// Acknowledgements of delivered messages.
    acks_total: Counter,
    /// Commands that append to inboxes: none while recipients acknowledge at once.
    inbox_appends_total: Counter,
    /// Entries in them.
    inbox_entries_total: Counter,
    /// Moves of fan-out cursors made durable.
    fanout_advances_total: Counter,
    /// Durable writes of the journal.
    journal_writes_total: Counter,
    /// Bytes of them, padding included.
    journal_bytes_total: Counter,
    /// Records in them.
    journal_records_total: Counter,
    /// Journal segments in use.
    journal_segments: Gauge,
    /// Commands proposed to Raft groups.
    proposals_total: Counter,
    /// Raft entries applied.
    entries_applied_total: Counter,
    /// Commands in them.
    commands_applied_total: Counter,
    /// Requests refused because the disk is full.
    refused_no_space_total: Counter,
    /// Requests refused because of load.
    refused_overload_total: Counter,
    /// Other requests answered with an error.
    errors_total: Counter,
    /// Logins accepted.
    logins_total: Counter,
    /// Logins refused.
    login_failures_total: Counter,
    /// Users registered.
    registrations_total: Counter,
    /// Memtables flushed.
    flushes_total: Counter,
    /// Steps of compaction: merges of table files, and drops of files past their retention.
    merges_total: Counter,
    /// Bytes written by flushes, merges and manifests.
    tree_bytes_written_total: Counter,
    /// Bytes of table files that were dropped or replaced.
    tree_bytes_removed_total: Counter,
    /// Live table files.
    tree_files: Gauge,
    /// Bytes of them.
    tree_bytes: Gauge,
    /// Table files in which damage was found.
    tree_files_quarantined: Gauge,
    /// Table files that are open.
    tables_open: Gauge,
    /// Memory for memtables and caches, bytes.
    memory_budget_bytes: Gauge,
    /// Memory of memtables, bytes.
    memory_memtable_bytes: Gauge,
    /// Memory of rows known from files, bytes.
    memory_row_bytes: Gauge,
    /// Memory of filters and indexes of open tables, bytes.
    memory_table_bytes: Gauge,
    /// Memory of cached blocks, bytes.
    memory_block_bytes: Gauge,
    /// Times that memtables reached their bound, so that new messages were refused.
    memory_stalls_total: Counter,
    /// Blocks found in the cache.
    block_hits_total: Counter,
    /// Blocks read from files.
    block_misses_total: Counter,
    /// Slices of background work.
    background_slices_total: Counter,
    /// Time in them, microseconds.
    background_busy_us_total: Counter,
    /// The longest one, microseconds.
    background_longest_slice_us: Gauge,
    /// Bytes of table files that were verified in the background.
    scrubbed_bytes_total: Counter,
    /// Damaged blocks or files met.
    damage_total: Counter,
    /// Changes of users between online and offline.
    presence_changes_total: Counter,
    /// Signals passed on: not stored, and not waited for.
    signals_total: Counter,
    /// One-time keys given to who wants to begin a session.
    one_time_keys_taken_total: Counter,
    /// Requests refused because of a rate.
    rate_limited_total: Counter,
    /// Messages read from inboxes for devices that came back.
    catchup_messages_total: Counter,
    /// Duration of a durable journal write, microseconds.
    commit_us: Histogram,
    /// Connections accepted over TCP.
    tcp_accepted_total: Counter,
    /// Connections accepted over QUIC.
    quic_accepted_total: Counter,
    /// Connections refused by a bound: of the node, of an address, or of those not logged in.
    connections_refused_total: Counter,
    /// Connections not logged in that were closed to make way for newer ones.
    connections_displaced_total: Counter,
    /// TLS and QUIC handshakes that failed or took too long.
    handshake_failures_total: Counter,
    /// QUIC handshakes that were first answered with a Retry.
    quic_retries_total: Counter,
    /// HTTP requests that are not WebSockets.
    http_requests_total: Counter,
    /// WebSockets opened.
    websockets_total: Counter,
    /// Long-poll sessions opened.
    polls_total: Counter,
    /// Frames received from clients.
    frames_in_total: Counter,
    /// Bytes of them.
    frame_bytes_in_total: Counter,
    /// Frames written to clients.
    frames_out_total: Counter,
    /// Bytes of them.
    frame_bytes_out_total: Counter,
    /// Flushes of sockets: each writes all frames that were ready.
    socket_flushes_total: Counter,
    /// Messages received from other cores.
    core_messages_total: Counter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_core_has_its_line_and_a_histogram_is_cumulative() {
        let cores = [Arc::new(CoreMetrics::default()), Arc::new(CoreMetrics::default())];
        cores[1].sent_total.add(3);
        cores[0].sessions_open.set(7);
        for micros in [10, 100, 101, 9_000_000] {
            cores[0].commit_us.record(micros);
        }
        let text = render(&cores);
        for expected in [
            "# HELP columba_sent_total Sends answered with Sent: durable and applied.\n",
            "# TYPE columba_sent_total counter\n",
            "columba_sent_total{core=\"1\"} 3\n",
            "columba_sessions_open{core=\"0\"} 7\n",
            "columba_commit_us_bucket{core=\"0\",le=\"20\"} 1\n",
            "columba_commit_us_bucket{core=\"0\",le=\"100\"} 2\n",
            "columba_commit_us_bucket{core=\"0\",le=\"150\"} 3\n",
            "columba_commit_us_bucket{core=\"0\",le=\"+Inf\"} 4\n",
            "columba_commit_us_sum{core=\"0\"} 9000211\n",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
    }
}
