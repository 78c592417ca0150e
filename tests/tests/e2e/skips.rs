//! What cannot run on this machine is seen at the end of a run, and fails it where that is asked for.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use weft_tests::binaries;
use weft_tests::run::Run;
use weft_tests::skip::skip;

/// Run by the tests below, in a process of its own.
#[test]
#[ignore = "it skips, always"]
fn a_test_without_its_tool() {
    skip("no tool\nto be had");
}

fn without_its_tool(environment: &[(&str, &Path)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "skips::a_test_without_its_tool", "--ignored"]);
    command.env_remove("WEFT_SKIPS").env_remove("WEFT_NO_SKIPS");
    command.envs(environment.iter().copied()).output().unwrap()
}

#[test]
fn a_skipped_test_leaves_a_line_or_fails() {
    let run = Run::temporary("skips").unwrap();
    let file = run.path("skips");
    assert!(without_its_tool(&[]).status.success());
    for times in 1..3 {
        let output = without_its_tool(&[("WEFT_SKIPS", &file)]);
        assert!(output.status.success(), "{output:?}");
        let line = "skips::a_test_without_its_tool: no tool to be had\n";
        assert_eq!(std::fs::read_to_string(&file).unwrap(), line.repeat(times));
    }
    for (value, fails) in [("1", true), ("0", false), ("", false)] {
        let output = without_its_tool(&[("WEFT_NO_SKIPS", Path::new(value))]);
        assert_eq!(!output.status.success(), fails, "{value:?}: {output:?}");
    }
}

/// `cargo` and `make` of these scripts: one skips a test twice and one passes.
fn stand_in(run: &Run, name: &str, script: &str) -> String {
    let path = run.path("bin").join(name);
    std::fs::create_dir_all(run.path("bin")).unwrap();
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!(
        "{}:{}",
        run.path("bin").display(),
        std::env::var("PATH").unwrap()
    )
}

const SKIPS: &str = r#"case "$1" in test)
echo "one::test: no tool" >>"$WEFT_SKIPS"
echo "one::test: no tool" >>"$WEFT_SKIPS"
echo "two::test: no engine" >>"$WEFT_SKIPS"
echo "test result: ok. 3 passed";; esac"#;

#[test]
fn what_was_skipped_ends_make_test_and_continuous_integration() {
    let run = Run::temporary("skips-at-the-end").unwrap();
    let path = stand_in(&run, "cargo", SKIPS);
    let output = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(binaries::repository())
            .env("PATH", &path)
            .env_remove("WEFT_SKIPS")
            .env_remove("MAKEFLAGS")
            .env_remove("MAKELEVEL")
            .env_remove("CARGO")
            .env("CARGO_TARGET_DIR", run.path("target"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let skipped = "SKIPPED 2\n  one::test: no tool\n  two::test: no engine\n";
    // Twice: what an earlier run skipped is not said again.
    for _ in 0..2 {
        // The tools are those that these tests run with.
        let said = output("make", &["test", "--assume-old=tools"]);
        assert!(said.ends_with(skipped), "{said}");
    }
    stand_in(&run, "make", SKIPS);
    let said = output(".ci/run", &[]);
    assert!(said.ends_with(&format!("{skipped}PASSED\n")), "{said}");
}

/// Nothing skips by another way.
#[test]
fn whatever_skips_says_so_by_the_helper() {
    let mut sources = vec![binaries::repository().to_path_buf()];
    let mut found = Vec::new();
    while let Some(folder) = sources.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                sources.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                // Says something to nobody, and goes.
                let mut said = text.split("eprintln!(").skip(1);
                let goes = |rest: &str| {
                    let next = rest.split(");").nth(1).unwrap_or_default().trim_start();
                    next.starts_with("return") || next.starts_with("continue")
                };
                if said.any(goes) {
                    found.push(path);
                }
            }
        }
    }
    assert!(
        found.is_empty(),
        "these end a test and tell nobody: {found:?}"
    );
}
