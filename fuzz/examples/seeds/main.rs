//! Writes the seeds of every fuzz target into `fuzz/corpus`:
//! `cargo run --manifest-path fuzz/Cargo.toml --example seeds`.
//!
//! Seeds are small and valid, one of each shape that a decoder knows; libFuzzer makes the rest from them. They are in
//! the repository, so this runs only when a format or the schema changes.

mod engine;
mod wire;

use std::path::{Path, PathBuf};

/// One seed: its target, its name, its bytes.
struct Seed {
    target: &'static str,
    name: String,
    bytes: Vec<u8>,
}

fn main() -> std::io::Result<()> {
    let corpus: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let seeds: Vec<Seed> = wire::seeds().into_iter().chain(engine::seeds()).collect();
    for target in seeds.iter().map(|seed| seed.target) {
        std::fs::create_dir_all(corpus.join(target))?;
    }
    for seed in &seeds {
        std::fs::write(corpus.join(seed.target).join(&seed.name), &seed.bytes)?;
    }
    println!("{} seeds", seeds.len());
    Ok(())
}
