//! The rules of the house that no other tool checks.
//!
//! - Each `.rs` file opens with `//!`, keeps to the line width and to the length of a file, and leaves nothing to be
//!   done later.
//! - Each `.rs` file of a crate is reached by `mod` declarations from a root: no dead files.
//! - Paths that the documents name exist: map and files agree.
//! - No file tells of the machine it was written on.
//!
//! All findings are printed, not only the first.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::Workspace;

/// Characters of a line, at most; rustfmt leaves comments and long strings alone.
const LINE_CHARS_MAX: usize = 120;
/// Lines of a file, at most: beyond, it is two.
const FILE_LINES_MAX: usize = 700;
/// Directories, relative to the root or by name, that hold nothing of the project's own.
const NOT_OURS: &[&str] = &["target", ".git", "fuzz/corpus", "fuzz/artifacts", "fuzz/coverage", "__pycache__", ".venv"];
/// Extensions of files that are read as text.
const TEXT: &[&str] = &["rs", "md", "toml", "proto", "py", "txt", "yml", "yaml", "json", "sh", "lock", "ts", "html"];
/// What is left to be done is in an issue, not in the code. Split, so that this file passes.
const UNFINISHED: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:"), concat!("dbg", "!(")];
/// Paths of particular machines.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Checks the tree.
///
/// # Errors
/// Where anything was found, or a file cannot be read.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let mut files = Vec::new();
    list_files(&workspace.root, &workspace.root, &mut files)?;
    files.sort();
    let mut findings = Vec::new();
    for file in &files {
        let Some(text) = read_text(&workspace.root, file)? else {
            continue;
        };
        check_text(file, &text, &mut findings);
        if has_extension(file, "rs") {
            check_source(file, &text, &mut findings);
        }
        if has_extension(file, "md") {
            check_document(&workspace.root, file, &text, &mut findings);
        }
    }
    check_reached(&workspace.root, &files, &mut findings)?;
    if findings.is_empty() {
        println!("tidy: {} files, nothing to say", files.len());
        return Ok(());
    }
    for finding in &findings {
        println!("{finding}");
    }
    bail!("tidy: {} findings in {} files", findings.len(), files.len())
}

fn list_files(root: &Path, directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", directory.display()))?;
        let path = entry.path();
        let relative = path.strip_prefix(root).expect("the walk starts at the root").to_path_buf();
        let kind = entry.file_type().with_context(|| format!("cannot look at {}", path.display()))?;
        let name = entry.file_name();
        let skipped = NOT_OURS.iter().any(|skipped| relative == Path::new(skipped) || name == *skipped);
        if kind.is_dir() && !skipped {
            list_files(root, &path, files)?;
        } else if kind.is_file() {
            files.push(relative);
        }
    }
    Ok(())
}

fn read_text(root: &Path, file: &Path) -> Result<Option<String>> {
    if !TEXT.iter().any(|extension| has_extension(file, extension)) && !file.starts_with(".ci") {
        return Ok(None);
    }
    let bytes = std::fs::read(root.join(file)).with_context(|| format!("cannot read {}", file.display()))?;
    String::from_utf8(bytes).map(Some).with_context(|| format!("{} is not UTF-8", file.display()))
}

fn has_extension(file: &Path, extension: &str) -> bool {
    file.extension().is_some_and(|found| found == extension)
}

fn check_text(file: &Path, text: &str, findings: &mut Vec<String>) {
    for (number, line) in (1..).zip(text.lines()) {
        for path in MACHINE_PATHS {
            let stands_alone = |at: usize| {
                let before = line[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || "_-.)}*>".contains(c))
            };
            if line.match_indices(path).any(|(at, _)| stands_alone(at)) {
                findings.push(format!("{}:{number}: names a machine's path, {path}", file.display()));
            }
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        findings.push(format!("{}: the last line has no end", file.display()));
    }
}

fn check_source(file: &Path, text: &str, findings: &mut Vec<String>) {
    let name = file.display();
    if !text.starts_with("//! ") {
        findings.push(format!("{name}:1: does not open with `//! ` and what the file is for"));
    }
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        findings.push(format!("{name}: {lines} lines, at most {FILE_LINES_MAX}: make it two files"));
    }
    for (number, line) in (1..).zip(text.lines()) {
        let chars = line.chars().count();
        // A row of a table cannot be broken.
        let row = line.trim_start().trim_start_matches('/').trim_start_matches('!').starts_with(" | ");
        if chars > LINE_CHARS_MAX && !row {
            findings.push(format!("{name}:{number}: {chars} characters, at most {LINE_CHARS_MAX}"));
        }
        for word in UNFINISHED.iter().filter(|word| line.contains(**word)) {
            findings.push(format!("{name}:{number}: {word}"));
        }
    }
}

/// Paths in links, and paths between backticks that start with a directory of ours and end like a file, must exist.
fn check_document(root: &Path, file: &Path, text: &str, findings: &mut Vec<String>) {
    let here = root.join(file);
    let here = here.parent().expect("a file has a directory");
    let mut fenced = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        let mut missing = |path: &str| findings.push(format!("{}:{number}: no file {path}", file.display()));
        for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            if !path.is_empty() && !path.contains(':') && !here.join(path).exists() {
                missing(path);
            }
        }
        for path in line.split('`').skip(1).step_by(2).filter(|quoted| is_our_file(root, quoted)) {
            if !root.join(path).exists() && !here.join(path).exists() {
                missing(path);
            }
        }
    }
}

fn is_our_file(root: &Path, quoted: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let Some((first, _)) = quoted.split_once('/') else {
        return false;
    };
    let file = Path::new(quoted);
    !first.is_empty()
        && first != "target"
        && quoted.chars().all(plain)
        && root.join(first).is_dir()
        && ["rs", "md", "toml", "proto", "py"].iter().any(|extension| has_extension(file, extension))
}

/// Every `.rs` file is a root that cargo finds by its place, or is declared by one that is reached.
fn check_reached(root: &Path, files: &[PathBuf], findings: &mut Vec<String>) -> Result<()> {
    let sources: BTreeSet<&Path> =
        files.iter().map(PathBuf::as_path).filter(|file| has_extension(file, "rs")).collect();
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<PathBuf> =
        sources.iter().filter(|file| is_root(file)).map(|file| file.to_path_buf()).collect();
    while let Some(file) = waiting.pop() {
        if !reached.insert(file.clone()) {
            continue;
        }
        let text = read_text(root, &file)?.unwrap_or_default();
        for module in declared_modules(&text) {
            let directory = directory_of_children(&file);
            let flat = directory.join(format!("{module}.rs"));
            let nested = directory.join(&module).join("mod.rs");
            let found = [flat, nested].into_iter().find(|candidate| sources.contains(candidate.as_path()));
            match found {
                Some(child) => waiting.push(child),
                None => findings.push(format!("{}: `mod {module}` has no file", file.display())),
            }
        }
    }
    for dead in sources.into_iter().filter(|file| !reached.contains(*file)) {
        findings.push(format!("{}: dead, no `mod` declares it", dead.display()));
    }
    Ok(())
}

/// Whether cargo finds the file by its place alone.
fn is_root(file: &Path) -> bool {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let file_name = name(file);
    let directory = file.parent().unwrap_or(Path::new(""));
    let above = directory.parent().unwrap_or(Path::new(""));
    match name(directory).as_str() {
        "src" => file_name == "lib.rs" || file_name == "main.rs",
        "bin" | "tests" | "examples" | "benches" | "fuzz_targets" => true,
        _ if file_name == "main.rs" => ["bin", "tests", "examples", "benches"].contains(&name(above).as_str()),
        _ => file_name == "build.rs",
    }
}

fn directory_of_children(file: &Path) -> PathBuf {
    let directory = file.parent().unwrap_or(Path::new("")).to_path_buf();
    let stem = file.file_stem().expect("a source file has a name");
    if is_root(file) || stem == "mod" { directory } else { directory.join(stem) }
}

/// Names in `mod name;` declarations, whatever their visibility.
fn declared_modules(text: &str) -> Vec<String> {
    let declared = |line: &str| {
        let line = line.trim();
        let after = line.strip_prefix("pub").map_or(line, |rest| match rest.strip_prefix('(') {
            Some(scope) => scope.split_once(')').map_or("", |(_, rest)| rest),
            None => rest,
        });
        let name = after.trim_start().strip_prefix("mod ")?.strip_suffix(';')?.trim().to_owned();
        name.chars().all(|c| c.is_alphanumeric() || c == '_').then_some(name)
    };
    text.lines().filter_map(declared).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_declarations_are_found_whatever_their_visibility() {
        let text =
            "//! mod not_this;\nmod a;\n  pub mod b;\npub(crate) mod c;\npub(in crate::x) mod d;\nmod inline { }\n";
        assert_eq!(declared_modules(text), ["a", "b", "c", "d"]);
    }

    #[test]
    fn roots_are_known_by_their_place() {
        for root in
            ["a/src/lib.rs", "a/src/main.rs", "a/src/bin/x.rs", "a/tests/it/main.rs", "a/tests/x.rs", "a/build.rs"]
        {
            assert!(is_root(Path::new(root)), "{root}");
        }
        for other in ["a/src/x.rs", "a/src/x/mod.rs", "a/src/x/lib.rs", "a/tests/it/x.rs", "a/src/x/main.rs"] {
            assert!(!is_root(Path::new(other)), "{other}");
        }
    }

    #[test]
    fn a_file_that_leaves_something_undone_or_grows_too_long_is_reported() {
        let mut findings = Vec::new();
        let long = format!("//! x\n// {}\n{}", UNFINISHED[0], "\n".repeat(FILE_LINES_MAX));
        check_source(Path::new("a.rs"), &long, &mut findings);
        assert_eq!(findings.len(), 2, "{findings:?}");
        findings.clear();
        check_source(Path::new("a.rs"), &format!("fn main() {{}} {}\n", "x".repeat(LINE_CHARS_MAX)), &mut findings);
        assert_eq!(findings.len(), 2, "{findings:?}");
    }

    #[test]
    fn a_path_of_a_machine_is_reported_and_a_path_of_ours_is_not() {
        let mut findings = Vec::new();
        check_text(
            Path::new("a.md"),
            &format!("see wire{}x and frame{}\n", MACHINE_PATHS[0], MACHINE_PATHS[1]),
            &mut findings,
        );
        assert_eq!(findings, [] as [String; 0]);
        check_text(Path::new("a.md"), &format!("see {}x\n", MACHINE_PATHS[0]), &mut findings);
        assert_eq!(findings.len(), 1);
    }
}
