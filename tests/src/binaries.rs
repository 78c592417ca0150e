//! Where the programs are: the workspace's own beside the running binary, the others under `.tools/`.
//!
//! *Invariant:* nothing here looks in `PATH`; what runs is what was built and pinned.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package lies in a folder of the repository")
}

/// A program that `tests/install-tools` puts under `.tools/`, such as `etcd`.
///
/// # Errors
/// If it is not there, with the command that installs it.
pub fn tool(name: &str) -> Result<PathBuf> {
    let path = repository().join(".tools").join(name);
    if !path.exists() {
        bail!("{} is missing: run tests/install-tools", path.display());
    }
    Ok(path)
}

/// A program of this workspace, such as `config-api`, from the directory the running binary was built into.
///
/// # Errors
/// If it is not there, with the command that builds it.
pub fn built(name: &str) -> Result<PathBuf> {
    let exe = std::env::current_exe().context("asking for the path of the running binary")?;
    let mut dir = exe
        .parent()
        .context("the running binary has no directory")?;
    if dir.ends_with("deps") {
        dir = dir.parent().context("deps has no parent directory")?;
    }
    let path = dir.join(name);
    if !path.exists() {
        bail!("{} is missing: run cargo build --workspace", path.display());
    }
    Ok(path)
}
