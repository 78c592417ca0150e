#![allow(clippy::unwrap_used)]
use super::*;

#[test]
fn a_folder_is_read_at_every_depth_in_order_and_only_its_manifests() {
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join(p);
    fs::create_dir_all(at("b/deep")).unwrap();
    fs::create_dir_all(at(".git")).unwrap();
    for file in [
        "z.yml",
        "a.yaml",
        "b/deep/x.json",
        "b/notes.md",
        ".git/c.yaml",
        ".hidden.yaml",
    ] {
        fs::write(at(file), file).unwrap();
    }
    let names = read(&[dir.path().to_owned()])
        .unwrap()
        .into_iter()
        .map(|t| t.text)
        .collect::<Vec<_>>();
    assert_eq!(names, ["a.yaml", "b/deep/x.json", "z.yml"]);
    let named = read(&[at("b/notes.md")]).unwrap();
    assert_eq!(
        named[0].text, "b/notes.md",
        "a file that is named is read whatever it is called"
    );
}

#[test]
fn what_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = |p: &str| dir.path().join(p);
    let message = |p: PathBuf| read(&[p]).unwrap_err().to_string();
    assert_eq!(
        message(path("absent.yaml")),
        format!("cannot read {}", path("absent.yaml").display())
    );
    assert_eq!(
        message(path("")),
        format!("{} holds no .yaml, .yml or .json file", path("").display())
    );
    fs::write(path("bytes.yaml"), [0xff, 0xfe]).unwrap();
    assert!(message(path("bytes.yaml")).starts_with("cannot read "));
}
