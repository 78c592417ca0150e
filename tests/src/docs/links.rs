//! Whether what documents point at is there: files of the repository, and headings.

use std::path::Path;

/// A file of the repository that a code span names, such as `demo/shop.yaml`: it begins with a folder of the repository.
pub(super) fn file(root: &Path, span: &str) -> Result<(), String> {
    let part = |c: char| c.is_ascii_alphanumeric() || "/._-@".contains(c);
    let Some((folder, _)) = span.split_once('/') else {
        return Ok(());
    };
    let names_one = !folder.is_empty() && root.join(folder).is_dir() && span.chars().all(part);
    if !names_one || root.join(span).exists() {
        return Ok(());
    }
    Err(format!("there is no file {span}"))
}

/// A link of a document, whose name and text these are.
pub(super) fn leads(root: &Path, name: &str, document: &str, link: &str) -> Result<(), String> {
    if link.contains("://") {
        return Ok(());
    }
    let (path, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() {
        Ok(document.to_owned())
    } else {
        let folder = root.join(name);
        let target = folder.parent().unwrap_or(root).join(path);
        if heading.is_empty() && target.exists() {
            return Ok(());
        }
        std::fs::read_to_string(target)
    };
    let target = target.map_err(|error| format!("{link} leads nowhere: {error}"))?;
    let mut headings = target.lines().filter(|line| line.starts_with('#'));
    if heading.is_empty() || headings.any(|line| anchor(line) == heading) {
        return Ok(());
    }
    Err(format!("{link} leads to no heading"))
}

/// What a heading is called in links.
fn anchor(line: &str) -> String {
    let text = line.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
