//! What comes out: percentiles, medians over runs, facts of the machine, a table.

use std::{path::Path, process::Command};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Nanoseconds beyond which a latency is recorded as this: a minute.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Collects latencies, in nanoseconds, to three digits.
#[derive(Clone)]
pub(crate) struct Latency(Histogram<u64>);

impl Latency {
    /// An empty collection.
    pub(crate) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are in order"))
    }

    /// Takes one.
    pub(crate) fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns.max(1));
    }

    /// Takes all of another.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("the bounds are the same");
    }

    /// What it came to.
    pub(crate) fn percentiles(&self) -> Percentiles {
        let at = |quantile| micros(self.0.value_at_quantile(quantile));
        Percentiles {
            count: self.0.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: micros(self.0.max()),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "53 bits of nanoseconds are 104 days")]
fn micros(ns: u64) -> f64 {
    ns as f64 / 1e3
}

/// `count` as a number that can be divided.
#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}

/// Percentiles of one measurement, microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    /// How many were measured.
    pub(crate) count: u64,
    /// Half are at most this.
    pub(crate) p50_us: f64,
    /// Nine of ten are.
    pub(crate) p90_us: f64,
    /// 99 of 100 are.
    pub(crate) p99_us: f64,
    /// 999 of 1,000 are.
    pub(crate) p999_us: f64,
    /// All are.
    pub(crate) max_us: f64,
}

/// The median, number by number, of several runs of one shape; other values are the first run's.
pub(crate) fn median<T: Serialize + DeserializeOwned>(runs: &[T]) -> anyhow::Result<T> {
    let values = runs.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
    let merged = median_value(&values.iter().collect::<Vec<_>>());
    Ok(serde_json::from_value(merged)?)
}

fn median_value(values: &[&Value]) -> Value {
    match values.first() {
        Some(Value::Object(first)) => first
            .keys()
            .map(|key| (key.clone(), median_value(&values.iter().filter_map(|v| v.get(key)).collect::<Vec<_>>())))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Some(Value::Number(first)) => {
            let mut numbers = values.iter().filter_map(|value| value.as_f64()).collect::<Vec<_>>();
            numbers.sort_by(f64::total_cmp);
            let middle = numbers[numbers.len() / 2];
            let even = numbers.len().is_multiple_of(2);
            let median = if even { (numbers[numbers.len() / 2 - 1] + middle) / 2.0 } else { middle };
            if first.is_u64() { whole(median) } else { median.into() }
        }
        Some(other) => (*other).clone(),
        None => Value::Null,
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "came from a u64 and lost at most a half")]
fn whole(median: f64) -> Value {
    (median as u64).into()
}

/// Where it was measured. Absolute figures mean little without it, and not much with it.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    kernel: String,
    cpu: String,
    cores: usize,
    memory: String,
    file_system: String,
    revision: Option<String>,
    /// 1, 5 and 15 minutes, at the start: what else was going on.
    load_average: String,
}

impl Machine {
    /// Asks the kernel, and git.
    pub(crate) fn here(dir: &Path) -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |file: &str, name: &str| {
            let line = file.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        Self {
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: field(&text("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory: field(&text("/proc/meminfo"), "MemTotal"),
            file_system: output("stat", &["-f", "-c", "%T", &dir.to_string_lossy()]).unwrap_or_default(),
            revision: output("git", &["describe", "--always", "--dirty"]),
            load_average: text("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
        }
    }

    /// One line for the head of a table.
    pub(crate) fn line(&self) -> String {
        format!(
            "{} cores ({}), Linux {}, {}, load {}, revision {}",
            self.cores,
            self.cpu,
            self.kernel,
            self.file_system,
            self.load_average,
            self.revision.as_deref().unwrap_or("unknown"),
        )
    }
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

/// A table in Markdown, columns as wide as they must be.
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    /// A table with these column heads.
    pub(crate) fn new(head: &[&str]) -> Self {
        Self(vec![head.iter().map(|&cell| cell.to_owned()).collect()])
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        assert!(cells.len() == self.0[0].len(), "a row has as many cells as the head");
        self.0.push(cells);
    }

    /// Prints it.
    pub(crate) fn print(&self) {
        let width = |column: usize| self.0.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths = (0..self.0[0].len()).map(width).collect::<Vec<_>>();
        for (n, row) in self.0.iter().enumerate() {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
            println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
            if n == 0 {
                println!("|{}|", widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("|"));
            }
        }
    }
}

/// A figure for a cell; a dash where it was not measured.
pub(crate) fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}

/// A ratio for a cell; a dash where there is nothing to divide.
pub(crate) fn ratio(value: Option<f64>, floor: f64) -> String {
    figure(value.filter(|_| floor > 0.0).map(|value| value / floor), 2)
}

/// Writes `value` as JSON.
///
/// # Errors
/// What the file system says.
#[expect(clippy::disallowed_methods, reason = "a driver: the result of the program")]
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    std::fs::write(path, serde_json::to_string_pretty(value)? + "\n")?;
    println!("wrote {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_taken_number_by_number_and_keeps_the_shape() {
        #[derive(Serialize, Deserialize)]
        struct Run {
            name: String,
            inner: Percentiles,
            maybe: Option<f64>,
        }
        let run = |p50_us, count, maybe| Run {
            name: "ws".to_owned(),
            inner: Percentiles { p50_us, count, ..Percentiles::default() },
            maybe,
        };
        let median = median(&[run(3.0, 10, None), run(1.0, 30, None), run(2.5, 20, None)]).unwrap();
        assert_eq!((median.name.as_str(), median.inner.p50_us, median.inner.count), ("ws", 2.5, 20));
        assert!(median.maybe.is_none());
    }

    #[test]
    fn percentiles_are_in_microseconds() {
        let mut latency = Latency::new();
        for n in 1..=1000 {
            latency.record(n * 1000);
        }
        let percentiles = latency.percentiles();
        assert!(
            (percentiles.p50_us - 500.0).abs() < 1.0 && (percentiles.p99_us - 990.0).abs() < 1.0,
            "{percentiles:?}"
        );
    }
}
