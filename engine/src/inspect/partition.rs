//! A partition's directory: what the manifest names, what of it is there, and what else is.
//!
//! Invariants
//! - Leftovers of a crash are no damage: the next start removes them, or goes on with them.

use core::fmt;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{Damage, TableInspection, join_counts, table::survey};
use crate::{
    env::{DirEntry, Disk},
    error::Result,
    partition::retention::Settings,
    snapshot::installer::{INCOMING_NAME, INSTALL_NAME},
    table::meta::FileMeta,
    tree::{
        conflict, is_table_name,
        manifest::{MANIFEST_NAME, MANIFEST_NEW_NAME, Manifest, read_file},
        table_name,
    },
};

/// A partition's files.
#[derive(Clone, Debug, Default)]
pub struct PartitionInspection {
    /// Its directory.
    pub dir: PathBuf,
    /// What its manifest says; `None` where there is none that is whole.
    pub manifest: Option<Manifest>,
    /// What the owner's bytes in it say.
    pub settings: Option<Settings>,
    /// Tables that the manifest names and that are there; without a manifest, all that are there.
    pub tables: Vec<TableInspection>,
    /// Tables that the manifest does not name: left by a crash, removed at the next start.
    pub orphans: Vec<TableInspection>,
    /// Tables that it names and that are not there.
    pub missing: Vec<String>,
    /// Other files, with what they are.
    pub others: Vec<(String, &'static str)>,
    /// Damage that is in no table.
    pub damages: Vec<Damage>,
}

impl PartitionInspection {
    /// All damage: not that of orphans, which are not needed.
    pub fn all_damages(&self) -> impl Iterator<Item = &Damage> {
        self.tables.iter().flat_map(|table| &table.damages).chain(&self.damages)
    }

    /// Whether no damage was found.
    pub fn is_whole(&self) -> bool {
        self.all_damages().next().is_none()
    }

    /// What a tool ends with: 0 whole, 1 damage.
    pub fn exit_status(&self) -> u8 {
        u8::from(!self.is_whole())
    }
}

/// Files of one place in the tree.
#[derive(Default)]
struct Group {
    files: usize,
    bytes: u64,
    rows: u64,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files, {} bytes, {} rows", self.files, self.bytes, self.rows)
    }
}

impl fmt::Display for PartitionInspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "partition {}:", self.dir.display())?;
        if let Some(manifest) = &self.manifest {
            let Manifest { applied, applied_term, next_file, files, .. } = manifest;
            let count = files.len();
            writeln!(f, "  manifest: entries up to {applied} of term {applied_term}, {count} files, next {next_file}")?;
            let mut groups: BTreeMap<_, Group> = BTreeMap::new();
            for file in files {
                let properties = &file.properties;
                let group = groups.entry((properties.class, properties.window, properties.level)).or_default();
                group.files += 1;
                group.bytes += file.bytes;
                group.rows += properties.rows;
            }
            for ((class, window, level), group) in &groups {
                writeln!(f, "    {}, window {window}, level {level}: {group}", class.name())?;
            }
        }
        if let Some(settings) = &self.settings {
            writeln!(f, "  retention: {:?}, expired at {} ms", settings.retention, settings.expired_at_ms)?;
        }
        self.tables.iter().try_for_each(|table| write!(f, "  {table}"))?;
        self.orphans.iter().try_for_each(|table| write!(f, "  not named: {table}"))?;
        self.missing.iter().try_for_each(|name| writeln!(f, "  missing: {name}"))?;
        if !self.others.is_empty() {
            let others = self.others.iter().map(|(name, what)| (name, *what)).collect();
            writeln!(f, "  others: {}", join_counts(&others))?;
        }
        self.damages.iter().try_for_each(|damage| writeln!(f, "  {damage}"))
    }
}

/// Looks at a partition; `verify` reads every byte of every file.
///
/// # Errors
/// `Io` where the directory cannot be listed.
pub async fn inspect_partition<D: Disk>(disk: &D, dir: &Path, verify: bool) -> Result<PartitionInspection> {
    let names = disk.list(dir).await?;
    let mut found = PartitionInspection { dir: dir.to_owned(), ..PartitionInspection::default() };
    let path = dir.join(MANIFEST_NAME);
    if has(&names, MANIFEST_NAME) {
        match read_file(disk, &path).await.and_then(|bytes| Manifest::decode(&path, &bytes)) {
            Ok(manifest) => found.manifest = Some(manifest),
            Err(error) => found.damages.push(Damage::of(&path, 0, &error)),
        }
    } else if names.iter().any(|entry| is_table_name(&entry.name)) && !has(&names, INSTALL_NAME) {
        found.damages.push(Damage::new(&path, 0, "there are tables, and no manifest"));
    }
    for entry in &names {
        if is_table_name(&entry.name) {
            let table = survey(disk, &dir.join(&entry.name), verify).await;
            match named(&found.manifest, &entry.name) {
                Some(file) => {
                    let table = compare(table, &file);
                    found.tables.push(table);
                }
                None if found.manifest.is_some() => found.orphans.push(table),
                None => found.tables.push(table),
            }
        } else if entry.name != MANIFEST_NAME {
            found.others.push((entry.name.clone(), role(&entry.name)));
        }
    }
    if let Some(manifest) = &found.manifest {
        for file in &manifest.files {
            let name = table_name(file.id);
            if !has(&names, &name) {
                found.damages.push(Damage::new(&dir.join(&name), 0, "the manifest names it, and it is missing"));
                found.missing.push(name);
            }
        }
        if let Some(conflict) = conflict(&manifest.files) {
            let reason = format!("files {} and {}: {}", conflict.older, conflict.newer, conflict.reason);
            found.damages.push(Damage::new(&path, 0, reason));
        }
        match Settings::decode(manifest.extra.clone()) {
            Ok(settings) => found.settings = Some(settings),
            Err(error) => found.damages.push(Damage::of(&path, 48, &error)),
        }
    }
    Ok(found)
}

/// Looks at a manifest by itself.
pub async fn inspect_manifest<D: Disk>(disk: &D, path: &Path) -> PartitionInspection {
    let dir = path.parent().unwrap_or(path).to_owned();
    let mut found = PartitionInspection { dir, ..PartitionInspection::default() };
    match read_file(disk, path).await.and_then(|bytes| Manifest::decode(path, &bytes)) {
        Ok(manifest) => {
            found.settings = Settings::decode(manifest.extra.clone()).ok();
            found.manifest = Some(manifest);
        }
        Err(error) => found.damages.push(Damage::of(path, 0, &error)),
    }
    found
}

fn has(names: &[DirEntry], name: &str) -> bool {
    names.iter().any(|entry| entry.name == name)
}

fn named(manifest: &Option<Manifest>, name: &str) -> Option<FileMeta> {
    manifest.as_ref()?.files.iter().find(|file| table_name(file.id) == name).cloned()
}

fn compare(mut table: TableInspection, file: &FileMeta) -> TableInspection {
    if table.bytes != file.bytes {
        let reason = format!("it has {} bytes, and {} in the manifest", table.bytes, file.bytes);
        table.damages.push(Damage::new(&table.path, 0, reason));
    } else if table.meta.as_ref().is_some_and(|meta| meta != file) {
        table.damages.push(Damage::new(&table.path, 0, "it is not the file that the manifest names"));
    }
    table
}

/// What a file that is no table is there for.
fn role(name: &str) -> &'static str {
    if name == MANIFEST_NEW_NAME {
        "(left by a crash)"
    } else if name == INSTALL_NAME {
        "(a snapshot's installation that the next start completes)"
    } else if name.starts_with(INCOMING_NAME) {
        "(a snapshot that is being received)"
    } else if name.contains(".lost") || name.contains(".damaged") {
        "(put aside by a repair)"
    } else {
        "(not ours)"
    }
}
