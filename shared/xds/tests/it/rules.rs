//! Every rule of the protocol has a test that carries its id.

use std::path::Path;

/// State of the world, delta, and both; S17 was never given.
const RULES: [(char, u8, &[u8]); 3] = [('s', 18, &[17]), ('d', 8, &[]), ('c', 12, &[])];

fn sources(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            text.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_rule_has_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    sources(&root.join("src"), &mut text);
    sources(&root.join("tests"), &mut text);
    let missing: Vec<String> = RULES
        .into_iter()
        .flat_map(|(letter, last, gaps)| {
            (1..=last)
                .filter(move |n| !gaps.contains(n))
                .map(move |n| format!("{letter}{n}"))
        })
        .filter(|id| !text.contains(&format!("fn {id}_")))
        .collect();
    assert!(missing.is_empty(), "no test for {missing:?}");
}
