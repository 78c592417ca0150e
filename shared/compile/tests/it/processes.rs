//! The same input gives the same bytes in every process.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::process::Command;

use xds::ResourceType;

use crate::support;

const CHILD: &str = "WEFT_PRINT_DIGEST";

fn digest() -> u64 {
    let mut hasher = DefaultHasher::new();
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut cases: Vec<_> = std::fs::read_dir(testdata)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    for case in cases {
        let text = std::fs::read_to_string(case.join("in.yaml")).unwrap();
        let mut compiler = support::compiler(&text);
        for line in text
            .lines()
            .filter_map(|line| line.strip_prefix("# proxy: "))
        {
            let id = compiler.connect(support::proxy(line.split_whitespace().next().unwrap()));
            let snapshot = compiler.snapshot(id).unwrap();
            for resource in ResourceType::ALL
                .into_iter()
                .flat_map(|ty| snapshot.iter(ty))
            {
                (resource.name(), resource.version(), &resource.body()[..]).hash(&mut hasher);
            }
        }
    }
    hasher.finish()
}

#[test]
fn two_processes_agree() {
    if std::env::var_os(CHILD).is_some() {
        #[allow(clippy::print_stdout, reason = "what the parent process reads")]
        {
            println!("digest={:016x}", digest());
        }
        return;
    }
    let run = || {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "processes::two_processes_agree", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.split_once("digest="))
            .unwrap();
        line.1[..16].to_owned()
    };
    assert_eq!(run(), run());
}
