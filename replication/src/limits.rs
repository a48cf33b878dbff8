//! Every bound of replication.

/// Ticks without a leader before an election, least; the seeded generator adds up to as many again.
pub const ELECTION_TICKS: usize = 10;
/// Ticks between heartbeats.
pub const HEARTBEAT_TICKS: usize = 2;
/// Bytes proposed and not committed, per group. Beyond: `TooMuchInFlight`, answered to clients as `OVERLOADED`.
pub const UNCOMMITTED_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes of committed entries handed out at a time.
pub const COMMITTED_BYTES_PER_READY_MAX: u64 = 4 * 1024 * 1024;
/// Bytes of entries read from the journal at a time while recovering.
pub const RECOVERY_READ_BYTES: usize = 1024 * 1024;
