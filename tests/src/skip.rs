//! Tests that cannot run here, and say so: a test runner swallows what a passing test prints.
//!
//! `WEFT_SKIPS` names a file that gets a line for each; `make test` prints it at the end. With `WEFT_NO_SKIPS=1` each is a
//! failure. Tests of other packages include this file, so it uses nothing but the standard library.
//!
//! *Invariant:* no test passes for want of a tool without a line in that file.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write as _;

/// Says that the current test, or a part of it, did not run, and why. The test should end that part after it.
///
/// # Panics
/// If nothing may be skipped, or the file cannot be written.
pub fn skip(why: impl Display) {
    let thread = std::thread::current();
    let line = format!("{}: {why}", thread.name().unwrap_or("a test"));
    let line = line.replace('\n', " ");
    let is_set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    assert!(
        is_set("WEFT_NO_SKIPS").is_none_or(|value| value == "0"),
        "WEFT_NO_SKIPS: {line}"
    );
    eprintln!("SKIPPED {line}");
    if let Some(path) = is_set("WEFT_SKIPS") {
        // One write of a line, so that lines of parallel tests do not mix.
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        written.unwrap_or_else(|error| panic!("WEFT_SKIPS={}: {error}", path.display()));
    }
}
